"""A person's own report: two a calendar year and agency are free, and every request is logged like any query (C10).

No consent is needed, and nobody but the subject's own account can ask.
"""

REGULATOR = 1
AGENCY = 4
SUBJECT = 32

CATEGORIES_ALL = 1023
PURPOSE_OWN = 0
ACTION_OWN = 3
FREE_REPORTS = 2
BEIJING_MS = 28_800_000  # the calendar year begins at midnight, UTC+8

OK = "ok"
SIMULATED = "simulated_read"
FREE_REPORTS_USED_UP = "free_reports_used_up"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


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
        self, subject: Address, action: int, actor: Address, user: Address, agency: Address, scope: int, purpose: int,
        order_id: bytes, code: str,
    ) -> int: ...


class OwnReport(Event):
    """The agency owes the person a report with this digest; `marked` of the `shown` items stand under an objection."""

    subject: Address
    agency: Address
    request_id: bytes
    report: bytes
    shown: int
    marked: int


class SelfReport(Contract):
    """Free reports taken, by (subject, agency, calendar year)."""

    registry: Value[Address]
    record: Value[Address]
    query_log: Value[Address]
    taken: Map[tuple[Address, Address, int], int]

    def init(self, registry: Address, record: Address, query_log: Address):
        self.registry.set(registry)
        self.record.set(record)
        self.query_log.set(query_log)

    @external
    def order(self, agency: Address, request_id: bytes) -> str:
        """The subject (the sender) asks an agency: `ok`, `free_reports_used_up` or why not; logged either way."""
        if ctx.is_query:
            return SIMULATED
        require(len(request_id) == 32, "malformed_id")
        registry = Registry(self.registry.get())
        code = registry.check(ctx.sender, SUBJECT)
        require(code == OK, code)
        key = (ctx.sender, agency, self._year())
        taken = self.taken.get(key, 0)
        code = registry.check(agency, AGENCY)
        if code == OK and taken >= FREE_REPORTS:
            code = FREE_REPORTS_USED_UP
        if code == OK:
            report = Record(self.record.get()).read(ctx.sender, agency, CATEGORIES_ALL)
            self.taken[key] = taken + 1
            emit(
                OwnReport(
                    subject=ctx.sender, agency=agency, request_id=request_id, report=report.digest,
                    shown=report.shown, marked=report.marked,
                )
            )
        QueryLog(self.query_log.get()).append(
            ctx.sender, ACTION_OWN, ctx.sender, ctx.sender, agency, CATEGORIES_ALL, PURPOSE_OWN, request_id, code
        )
        return code

    @view
    def taken_in(self, subject: Address, agency: Address, year: int) -> int:
        """How many free reports were taken in a calendar year, in a signed read of the subject or the regulator."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        if ctx.sender != subject:
            require(Registry(self.registry.get()).check(ctx.sender, REGULATOR) == OK, "not_permitted")
        return self.taken.get((subject, agency, year), 0)

    def _year(self) -> int:
        """The Gregorian calendar year in Beijing at the block's time, counted in years that begin on 1 March."""
        days = (ctx.time_ms + BEIJING_MS) // 86_400_000 + 719_468  # since 1 March of year 0
        day = days % 146_097  # of a cycle of 400 years
        year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
        day_of_year = day - (365 * year + year // 4 - year // 100)
        return days // 146_097 * 400 + year + (1 if day_of_year >= 306 else 0)
