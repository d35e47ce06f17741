"""Every attempt to see a subject's data, refused or not: who, when, what, why, and how it ended (C6).

Only the order and self-report contracts append. Nothing deletes or changes an entry: there is no method for it. Entries are kept per
subject, so queries about different subjects never touch the same key.
"""

REGULATOR = 1
PAGE = 100

OK = "ok"

CREATE = 1  # an order was attempted
DELIVER = 2  # a delivery was attempted
OWN = 3  # the subject asked for a report of their own


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Entry(Struct):
    """`actor` sent the transaction, `user` is who would see the data, `code` is `ok` or the reason for refusal."""

    time_ms: int
    height: int
    action: int
    actor: Address
    user: Address
    agency: Address
    scope: int
    purpose: int
    order_id: bytes
    code: str


class QueryLogged(Event):
    subject: Address
    sequence: int
    action: int
    user: Address
    agency: Address
    purpose: int
    code: str


class QueryLog(Contract):
    """Entries of a subject are numbered from 0 without gaps."""

    registry: Value[Address]
    admin: Value[Address]
    order: Value[Address]
    self_report: Value[Address]
    counts: Map[Address, int]
    entries: Map[tuple[Address, int], Entry]

    def init(self, registry: Address, admin: Address):
        self.registry.set(registry)
        self.admin.set(admin)

    @external
    def connect(self, order: Address, self_report: Address):
        """Admin only, once: the contracts that may append."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.order.exists(), "already_connected")
        self.order.set(order)
        self.self_report.set(self_report)

    @external
    def append(
        self, subject: Address, action: int, actor: Address, user: Address, agency: Address, scope: int,
        purpose: int, order_id: bytes, code: str,
    ) -> int:
        """Order and self-report contracts only: the entry's number."""
        permitted = ctx.sender == self.order.get() or ctx.sender == self.self_report.get()
        require(permitted, "not_a_contract_of_the_suite")
        sequence = self.counts.get(subject, 0)
        self.entries[(subject, sequence)] = Entry(
            time_ms=ctx.time_ms, height=ctx.height, action=action, actor=actor, user=user, agency=agency,
            scope=scope, purpose=purpose, order_id=order_id, code=code,
        )
        self.counts[subject] = sequence + 1
        emit(
            QueryLogged(
                subject=subject, sequence=sequence, action=action, user=user, agency=agency, purpose=purpose,
                code=code,
            )
        )
        return sequence

    @view
    def count(self, subject: Address) -> int:
        """How many attempts were made, in a signed read of the subject or the regulator."""
        self._require_reader(subject)
        return self.counts.get(subject, 0)

    @view
    def list_entries(self, subject: Address, first: int, limit: int) -> tuple[Entry, ...]:
        """At most 100 entries from number `first`, oldest first, in a signed read of the subject or the regulator."""
        self._require_reader(subject)
        require(first >= 0 and limit > 0, "malformed_page")
        last = min(first + min(limit, PAGE), self.counts.get(subject, 0))
        return [self.entries[(subject, sequence)] for sequence in range(first, last)]

    def _require_reader(self, subject: Address):
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        if ctx.sender != subject:
            require(Registry(self.registry.get()).check(ctx.sender, REGULATOR) == OK, "not_permitted")
