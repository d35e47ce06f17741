"""An order's life: create, accept, deliver, confirm; or reject, or time out.

`deliver` is the heart of the suite: in one transaction it takes a use of the consent, computes what the report shows,
logs the query and makes the fee owed. A refusal is an answer with a reason, and it is logged like a success (C6); only
calls that no client of good faith makes (wrong lengths, an order that does not exist) revert.

Calls repeat the names they touch (user, order id, subject, consent id, purse) although the order knows most of them,
and the contract compares. So the arguments alone say which keys a transaction touches, and orders about different
subjects run in parallel.

Nothing happens by itself: an order that nobody completes is closed by `time_out`, which anyone may call.
"""

REGULATOR = 1
AGENCY = 4
USER = 16

COLLECTION = 9

ACTION_CREATE = 1
ACTION_DELIVER = 2

CREATED = 1
ACCEPTED = 2
DELIVERED = 3
CONFIRMED = 4
REJECTED = 5
REFUSED = 6  # delivery met a consent that can never come back; the fee waits for `time_out`
TIMED_OUT = 7

DELIVERY_MS = 259_200_000  # three days from creation to deliver
CONFIRMATION_MS = 604_800_000  # seven days from delivery to confirm or reject; silence confirms

OK = "ok"
SIMULATED = "simulated_read"
ORDER_EXISTS = "order_exists"
UNKNOWN_PRODUCT = "unknown_product"
PRODUCT_RETIRED = "product_retired"
PRICE_ABOVE_LIMIT = "price_above_limit"
WRONG_STATE = "wrong_order_state"
NOT_THE_AGENCY = "not_the_agency"
NOT_A_PARTY = "not_a_party"
OVERDUE = "order_overdue"
NOT_DUE = "not_due_yet"
ALREADY_DELIVERED = "delivered_already"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Offer(Struct):
    scope: int
    price: int
    version: int
    retired: bool


class Product(Interface):
    @view
    def offer(self, agency: Address, product: str) -> Offer | None: ...


class Consent(Interface):
    @external
    def use(
        self, subject: Address, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int
    ) -> str: ...

    @view
    def check(
        self, subject: Address, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int
    ) -> str: ...


class Report(Struct):
    digest: bytes
    shown: int
    marked: int


class Record(Interface):
    @view
    def read(self, subject: Address, agency: Address, scope: int) -> Report: ...


class QueryLog(Interface):
    @external
    def append(
        self, subject: Address, action: int, actor: Address, user: Address, agency: Address, scope: int,
        purpose: int, order_id: bytes, code: str,
    ) -> int: ...


class Settlement(Interface):
    @external
    def hold(self, payer: Address, order_id: bytes, payee: Address, points: int, purse: int) -> str: ...

    @external
    def transfer(self, payer: Address, order_id: bytes): ...

    @external
    def pay(self, payer: Address, order_id: bytes, payee: Address, purse: int): ...

    @external
    def refund(self, payer: Address, order_id: bytes, purse: int): ...


class Purchase(Struct):
    """An order. `delivery` is the salted fingerprint of the report handed over, `report` what the chain says it shows."""

    subject: Address
    agency: Address
    scope: int
    purpose: int
    consent_id: bytes
    fee: int
    state: int
    due_ms: int
    delivery: bytes
    report: Report | None


class OrderCreated(Event):
    user: Address
    order_id: bytes
    agency: Address
    subject: Address


class OrderDelivered(Event):
    """`marked` of the `shown` items stand under an objection."""

    user: Address
    order_id: bytes
    delivery: bytes
    report: bytes
    shown: int
    marked: int


class OrderClosed(Event):
    user: Address
    order_id: bytes
    state: int
    by: Address


class Order(Contract):
    """Orders by (user, order id); an id is 32 random bytes chosen by the user."""

    registry: Value[Address]
    product: Value[Address]
    consent: Value[Address]
    record: Value[Address]
    query_log: Value[Address]
    settlement: Value[Address]
    purchases: Map[tuple[Address, bytes], Purchase]
    deliveries: Map[tuple[Address, bytes], bool]

    def init(
        self, registry: Address, product: Address, consent: Address, record: Address, query_log: Address,
        settlement: Address,
    ):
        self.registry.set(registry)
        self.product.set(product)
        self.consent.set(consent)
        self.record.set(record)
        self.query_log.set(query_log)
        self.settlement.set(settlement)

    @external
    def create(
        self, order_id: bytes, subject: Address, agency: Address, product: str, purpose: int, consent_id: bytes,
        price_max: int, purse: int,
    ) -> str:
        """A user (the sender) orders a product about a subject under a consent; the fee is held. `ok` or why not."""
        if ctx.is_query:
            return SIMULATED
        require(len(order_id) == 32 and len(consent_id) == 32, "malformed_id")
        require(0 < purpose and purpose < COLLECTION, "malformed_purpose")
        offer = Product(self.product.get()).offer(agency, product)
        scope = 0 if offer is None else offer.scope
        code = self._creation(order_id, subject, agency, offer, purpose, consent_id, price_max)
        if code == OK:
            code = Settlement(self.settlement.get()).hold(ctx.sender, order_id, agency, offer.price, purse)
        if code == OK:
            self.purchases[(ctx.sender, order_id)] = Purchase(
                subject=subject, agency=agency, scope=scope, purpose=purpose, consent_id=consent_id, fee=offer.price,
                state=CREATED, due_ms=ctx.time_ms + DELIVERY_MS, delivery=b"", report=None,
            )
            emit(OrderCreated(user=ctx.sender, order_id=order_id, agency=agency, subject=subject))
        self._log(subject, ACTION_CREATE, ctx.sender, agency, scope, purpose, order_id, code)
        return code

    @external
    def accept(self, user: Address, order_id: bytes) -> str:
        """The agency takes the order on."""
        role = Registry(self.registry.get()).check(ctx.sender, AGENCY)
        require(role == OK, role)
        purchase = self._purchase(user, order_id)
        if purchase.agency != ctx.sender:
            return NOT_THE_AGENCY
        if purchase.state != CREATED:
            return WRONG_STATE
        if purchase.due_ms <= ctx.time_ms:
            return OVERDUE
        self.purchases[(user, order_id)] = purchase.replace(state=ACCEPTED)
        return OK

    @external
    def deliver(self, user: Address, order_id: bytes, subject: Address, consent_id: bytes, delivery: bytes) -> str:
        """The agency hands the report over off chain and puts its salted fingerprint here; `ok` or why it must not.

        With `ok` the consent has one use fewer, the query is logged and the fee is owed.
        """
        if ctx.is_query:
            return SIMULATED
        require(len(delivery) == 32, "malformed_fingerprint")
        purchase = self._purchase(user, order_id)
        require(purchase.subject == subject and purchase.consent_id == consent_id, "order_mismatch")
        code = self._delivery(user, purchase, delivery)
        if code == OK:
            code = Consent(self.consent.get()).use(
                subject, consent_id, user, purchase.agency, purchase.scope, purchase.purpose
            )
            if code != OK:  # neither a revoked nor an expired nor a used-up consent comes back
                self.purchases[(user, order_id)] = purchase.replace(state=REFUSED)
        if code == OK:
            report = Record(self.record.get()).read(subject, purchase.agency, purchase.scope)
            self.deliveries[(ctx.sender, delivery)] = True
            self.purchases[(user, order_id)] = purchase.replace(
                state=DELIVERED, due_ms=ctx.time_ms + CONFIRMATION_MS, delivery=delivery, report=report
            )
            Settlement(self.settlement.get()).transfer(user, order_id)
            emit(
                OrderDelivered(
                    user=user, order_id=order_id, delivery=delivery, report=report.digest, shown=report.shown,
                    marked=report.marked,
                )
            )
        self._log(subject, ACTION_DELIVER, user, purchase.agency, purchase.scope, purchase.purpose, order_id, code)
        return code

    @external
    def confirm(self, order_id: bytes, agency: Address, purse: int) -> str:
        """The user (the sender) has the report and it has the fingerprint: the agency is paid, into its `purse`."""
        purchase = self._own(order_id)
        require(purchase.agency == agency, "order_mismatch")
        if purchase.state != DELIVERED:
            return WRONG_STATE
        self._close(ctx.sender, order_id, purchase, CONFIRMED)
        Settlement(self.settlement.get()).pay(ctx.sender, order_id, agency, purse)
        return OK

    @external
    def reject(self, user: Address, order_id: bytes, purse: int) -> str:
        """The agency declines before delivery, or the user withdraws, or rejects what was delivered within seven days.

        The fee goes back to the user's `purse`.
        """
        purchase = self._purchase(user, order_id)
        role = Registry(self.registry.get()).check(ctx.sender, AGENCY | USER)
        require(role == OK, role)
        if ctx.sender != user and ctx.sender != purchase.agency:
            return NOT_A_PARTY
        is_open = purchase.state == CREATED or purchase.state == ACCEPTED
        if ctx.sender == user and purchase.state == DELIVERED:
            if purchase.due_ms <= ctx.time_ms:
                return OVERDUE
            is_open = True
        if not is_open:
            return WRONG_STATE
        self._close(user, order_id, purchase, REJECTED)
        Settlement(self.settlement.get()).refund(user, order_id, purse)
        return OK

    @external
    def time_out(self, user: Address, order_id: bytes, agency: Address, purse: int) -> str:
        """Anyone: closes an order whose time is over. Not delivered: the fee goes back. Delivered: silence confirms.

        An order that met a dead consent need not wait. `purse` is the user's, or the agency's if it is to be paid.
        """
        purchase = self._purchase(user, order_id)
        require(purchase.agency == agency, "order_mismatch")
        if purchase.state == CONFIRMED or purchase.state == REJECTED or purchase.state == TIMED_OUT:
            return WRONG_STATE
        if purchase.state != REFUSED and purchase.due_ms > ctx.time_ms:
            return NOT_DUE
        if purchase.state == DELIVERED:
            self._close(user, order_id, purchase, CONFIRMED)
            Settlement(self.settlement.get()).pay(user, order_id, agency, purse)
        else:
            self._close(user, order_id, purchase, TIMED_OUT)
            Settlement(self.settlement.get()).refund(user, order_id, purse)
        return OK

    @view
    def purchase(self, user: Address, order_id: bytes) -> Purchase | None:
        """The order, in a signed read of its user, its agency or its subject; None if there is none."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        purchase = self.purchases.get((user, order_id), None)
        if purchase is not None:
            permitted = ctx.sender == user or ctx.sender == purchase.agency or ctx.sender == purchase.subject
            if not permitted:
                permitted = Registry(self.registry.get()).check(ctx.sender, REGULATOR) == OK
            require(permitted, "not_permitted")
        return purchase

    def _creation(
        self, order_id: bytes, subject: Address, agency: Address, offer: Offer | None, purpose: int,
        consent_id: bytes, price_max: int,
    ) -> str:
        registry = Registry(self.registry.get())
        code = registry.check(ctx.sender, USER)
        if code == OK:
            code = registry.check(agency, AGENCY)
        if code != OK:
            return code
        if (ctx.sender, order_id) in self.purchases:
            return ORDER_EXISTS
        if offer is None:
            return UNKNOWN_PRODUCT
        if offer.retired:
            return PRODUCT_RETIRED
        if offer.price > price_max:
            return PRICE_ABOVE_LIMIT
        return Consent(self.consent.get()).check(subject, consent_id, ctx.sender, agency, offer.scope, purpose)

    def _delivery(self, user: Address, purchase: Purchase, delivery: bytes) -> str:
        registry = Registry(self.registry.get())
        code = registry.check(ctx.sender, AGENCY)
        if code == OK:
            code = registry.check(user, USER)
        if code != OK:
            return code
        if purchase.agency != ctx.sender:
            return NOT_THE_AGENCY
        if purchase.state == DELIVERED or purchase.state == CONFIRMED:
            return ALREADY_DELIVERED
        if purchase.state != ACCEPTED:
            return WRONG_STATE
        if purchase.due_ms <= ctx.time_ms:
            return OVERDUE
        if (ctx.sender, delivery) in self.deliveries:
            return ALREADY_DELIVERED
        return OK

    def _own(self, order_id: bytes) -> Purchase:
        role = Registry(self.registry.get()).check(ctx.sender, USER)
        require(role == OK, role)
        return self._purchase(ctx.sender, order_id)

    def _purchase(self, user: Address, order_id: bytes) -> Purchase:
        purchase = self.purchases.get((user, order_id), None)
        require(purchase is not None, "unknown_order")
        return purchase

    def _close(self, user: Address, order_id: bytes, purchase: Purchase, state: int):
        self.purchases[(user, order_id)] = purchase.replace(state=state)
        emit(OrderClosed(user=user, order_id=order_id, state=state, by=ctx.sender))

    def _log(
        self, subject: Address, action: int, user: Address, agency: Address, scope: int, purpose: int,
        order_id: bytes, code: str,
    ):
        QueryLog(self.query_log.get()).append(subject, action, ctx.sender, user, agency, scope, purpose, order_id, code)
