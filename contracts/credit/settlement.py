"""Fees in points: issued by the operator, held while an order is open, then paid to the agency or given back (C11).

Points are conserved: what all purses and all open holds contain is what was issued less what was redeemed. A hold leaves
the state it is in exactly once, so nothing settles twice.

A member keeps its points in up to 64 purses, and a call names the purse it touches. Orders of one bank that use
different purses touch different keys and run in parallel; one balance per bank would make them wait for each other.
"""

OPERATOR = 2
INSTITUTION = 28

PURSES = 64
POINTS_MAX = 1_000_000_000_000_000

HELD = 1  # taken from the payer, the order is open
OWED = 2  # delivered: the payee gets it unless the user rejects in time
PAID = 3
REFUNDED = 4

OK = "ok"
INSUFFICIENT = "insufficient_points"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Hold(Struct):
    payee: Address
    points: int
    state: int


class PointsIssued(Event):
    account: Address
    points: int


class PointsRedeemed(Event):
    account: Address
    points: int


class PointsSettled(Event):
    """`state` is PAID or REFUNDED."""

    payer: Address
    order_id: bytes
    payee: Address
    points: int
    state: int


class Settlement(Contract):
    """Purses of members and holds of orders; a hold is named by (payer, order id)."""

    registry: Value[Address]
    admin: Value[Address]
    order: Value[Address]
    issued: Value[int]
    redeemed: Value[int]
    purses: Map[tuple[Address, int], int]
    holds: Map[tuple[Address, bytes], Hold]

    def init(self, registry: Address, admin: Address):
        self.registry.set(registry)
        self.admin.set(admin)
        self.issued.set(0)
        self.redeemed.set(0)

    @external
    def connect(self, order: Address):
        """Admin only, once: the contract that opens and settles holds."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.order.exists(), "already_connected")
        self.order.set(order)

    @external
    def issue(self, account: Address, points: int) -> str:
        """Operator only: new points against payment off chain, spread over the account's purses as evenly as possible."""
        registry = Registry(self.registry.get())
        code = registry.check(ctx.sender, OPERATOR)
        require(code == OK, code)
        require(0 < points and points <= POINTS_MAX, "malformed_points")
        code = registry.check(account, INSTITUTION)
        if code != OK:
            return code
        for purse in range(PURSES):
            share = points // PURSES + (1 if purse < points % PURSES else 0)
            if share > 0:
                self._put(account, purse, share)
        self.issued.set(self.issued.get() + points)
        emit(PointsIssued(account=account, points=points))
        return OK

    @external
    def redeem(self, purse: int, points: int) -> str:
        """A member hands points back for payment off chain."""
        code = Registry(self.registry.get()).check(ctx.sender, INSTITUTION)
        require(code == OK, code)
        require(0 < points, "malformed_points")
        if not self._take(ctx.sender, purse, points):
            return INSUFFICIENT
        self.redeemed.set(self.redeemed.get() + points)
        emit(PointsRedeemed(account=ctx.sender, points=points))
        return OK

    @external
    def move(self, source: int, target: int, points: int) -> str:
        """A member moves points between its own purses."""
        code = Registry(self.registry.get()).check(ctx.sender, INSTITUTION)
        require(code == OK, code)
        require(0 < points, "malformed_points")
        if not self._take(ctx.sender, source, points):
            return INSUFFICIENT
        self._put(ctx.sender, target, points)
        return OK

    @external
    def hold(self, payer: Address, order_id: bytes, payee: Address, points: int, purse: int) -> str:
        """Order contract only: takes the fee from the payer's purse: `ok` or `insufficient_points`."""
        self._require_order()
        require((payer, order_id) not in self.holds, "held_already")
        if not self._take(payer, purse, points):
            return INSUFFICIENT
        self.holds[(payer, order_id)] = Hold(payee=payee, points=points, state=HELD)
        return OK

    @external
    def transfer(self, payer: Address, order_id: bytes):
        """Order contract only: from now on the held points are owed to the payee."""
        self._require_order()
        hold = self.holds[(payer, order_id)]
        require(hold.state == HELD, "not_held")
        self.holds[(payer, order_id)] = hold.replace(state=OWED)

    @external
    def pay(self, payer: Address, order_id: bytes, payee: Address, purse: int):
        """Order contract only: the owed points go to a purse of the payee."""
        self._require_order()
        hold = self.holds[(payer, order_id)]
        require(hold.state == OWED and hold.payee == payee, "not_owed")
        self._put(payee, purse, hold.points)
        self._settle(payer, order_id, hold, PAID)

    @external
    def refund(self, payer: Address, order_id: bytes, purse: int):
        """Order contract only: held or owed points go back to a purse of the payer."""
        self._require_order()
        hold = self.holds[(payer, order_id)]
        require(hold.state == HELD or hold.state == OWED, "already_settled")
        self._put(payer, purse, hold.points)
        self._settle(payer, order_id, hold, REFUNDED)

    @view
    def balance(self, account: Address) -> int:
        """All purses of the account together."""
        return sum([points for key, points in self.purses.scan(account)])

    @view
    def purse(self, account: Address, purse: int) -> int:
        return self.purses.get((account, purse), 0)

    @view
    def outstanding(self) -> int:
        """Points issued and not redeemed: what purses and open holds contain."""
        return self.issued.get() - self.redeemed.get()

    @view
    def hold_of(self, payer: Address, order_id: bytes) -> Hold | None:
        return self.holds.get((payer, order_id), None)

    def _take(self, account: Address, purse: int, points: int) -> bool:
        require(0 <= purse and purse < PURSES, "malformed_purse")
        before = self.purses.get((account, purse), 0)
        if before < points:
            return False
        self.purses[(account, purse)] = before - points
        return True

    def _put(self, account: Address, purse: int, points: int):
        require(0 <= purse and purse < PURSES, "malformed_purse")
        self.purses[(account, purse)] = self.purses.get((account, purse), 0) + points

    def _settle(self, payer: Address, order_id: bytes, hold: Hold, state: int):
        self.holds[(payer, order_id)] = hold.replace(state=state)
        emit(PointsSettled(payer=payer, order_id=order_id, payee=hold.payee, points=hold.points, state=state))

    def _require_order(self):
        require(ctx.sender == self.order.get(), "not_the_order_contract")
