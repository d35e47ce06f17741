"""Objections: a subject disputes an item, the mark is on it at once, and there is a date by which it must be answered.

Handled within 20 days with one of three outcomes: corrected (the item must have a new fingerprint by then), upheld (the
mark goes), or unverifiable (the mark stays for good). Whoever is overdue, or whoever the subject disagrees with, can be
complained about; the arbiter decides within 30 days. Every step is an entry of a history that only grows (C4).
"""

AGENCY = 4
PROVIDER = 8
SUBJECT = 32
ARBITER = 64
REGULATOR = 1

TWENTY_DAYS_MS = 1_728_000_000
THIRTY_DAYS_MS = 2_592_000_000
PAGE = 100
STEPS_MAX = 200  # of one item: bounds what one person and one agency can write

OPEN = 1
VERIFIED = 2
RESOLVED = 3
ESCALATED = 4
DECIDED = 5

CORRECTED = 1
UPHELD = 2
UNVERIFIABLE = 3

OK = "ok"
UNKNOWN_RECORD = "unknown_record"
UNKNOWN = "unknown_objection"
ALREADY_OPEN = "objection_open"
NOT_OPEN = "objection_not_open"
NOT_CORRECTED = "record_not_corrected"
NOT_THE_AGENCY = "not_the_agency"
NOT_DUE = "not_due_yet"
REPORTED = "overdue_reported_already"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Record(Interface):
    @external
    def mark(self, subject: Address, agency: Address, record_id: bytes) -> int: ...

    @external
    def unmark(self, subject: Address, agency: Address, record_id: bytes) -> int: ...

    @view
    def version(self, subject: Address, agency: Address, record_id: bytes) -> int: ...


class Dispute(Struct):
    """The latest objection on an item; `version` is the item's when it was raised, `steps` counts the history."""

    state: int
    outcome: int
    version: int
    due_ms: int
    overdue: bool
    marked: bool
    steps: int


class Step(Struct):
    """`state` it led to, `paper` the fingerprint of the ground, reply or decision."""

    time_ms: int
    by: Address
    state: int
    outcome: int
    paper: bytes


class ObjectionStep(Event):
    subject: Address
    agency: Address
    record_id: bytes
    state: int
    outcome: int
    due_ms: int


class ObjectionOverdue(Event):
    subject: Address
    agency: Address
    record_id: bytes
    due_ms: int


class Objection(Contract):
    """Disputes by (subject, agency, record id): one open at a time, all of them in the history."""

    registry: Value[Address]
    record: Value[Address]
    disputes: Map[tuple[Address, Address, bytes], Dispute]
    history: Map[tuple[Address, Address, bytes, int], Step]

    def init(self, registry: Address, record: Address):
        self.registry.set(registry)
        self.record.set(record)

    @external
    def lodge(self, agency: Address, record_id: bytes, ground: bytes) -> str:
        """The subject (the sender) objects; `ground` is a fingerprint. Marks the item in this transaction."""
        self._require_role(SUBJECT)
        require(len(ground) == 32, "malformed_fingerprint")
        key = (ctx.sender, agency, record_id)
        dispute = self.disputes.get(key, None)
        if dispute is not None and dispute.state != RESOLVED and dispute.state != DECIDED:
            return ALREADY_OPEN
        steps = 0 if dispute is None else dispute.steps
        require(steps < STEPS_MAX, "too_many_steps")
        version = Record(self.record.get()).mark(ctx.sender, agency, record_id)
        if version == 0:
            return UNKNOWN_RECORD
        fresh = Dispute(
            state=OPEN, outcome=0, version=version, due_ms=ctx.time_ms + TWENTY_DAYS_MS, overdue=False, marked=True,
            steps=steps,
        )
        self._step(ctx.sender, agency, record_id, fresh, ground)
        return OK

    @external
    def verify(self, subject: Address, agency: Address, record_id: bytes, reply: bytes) -> str:
        """A provider or the agency puts the fingerprint of what checking the item brought out."""
        self._require_role(PROVIDER | AGENCY)
        require(len(reply) == 32, "malformed_fingerprint")
        dispute = self.disputes.get((subject, agency, record_id), None)
        if dispute is None:
            return UNKNOWN
        if dispute.state != OPEN and dispute.state != VERIFIED:
            return NOT_OPEN
        require(dispute.steps < STEPS_MAX, "too_many_steps")
        self._step(subject, agency, record_id, dispute.replace(state=VERIFIED), reply)
        return OK

    @external
    def resolve(self, subject: Address, agency: Address, record_id: bytes, outcome: int, reply: bytes) -> str:
        """The agency answers with one of the three outcomes and the fingerprint of its reply."""
        self._require_role(AGENCY)
        require(outcome in (CORRECTED, UPHELD, UNVERIFIABLE), "malformed_outcome")
        require(len(reply) == 32, "malformed_fingerprint")
        if ctx.sender != agency:
            return NOT_THE_AGENCY
        dispute = self.disputes.get((subject, agency, record_id), None)
        if dispute is None:
            return UNKNOWN
        if dispute.state != OPEN and dispute.state != VERIFIED:
            return NOT_OPEN
        return self._end(subject, agency, record_id, dispute, RESOLVED, outcome, reply)

    @external
    def escalate(self, agency: Address, record_id: bytes, ground: bytes) -> str:
        """The subject (the sender) complains about an overdue or an unwelcome answer; due in 30 days."""
        self._require_role(SUBJECT)
        require(len(ground) == 32, "malformed_fingerprint")
        dispute = self.disputes.get((ctx.sender, agency, record_id), None)
        if dispute is None:
            return UNKNOWN
        if dispute.state == ESCALATED or dispute.state == DECIDED:
            return NOT_OPEN
        if dispute.state != RESOLVED and ctx.time_ms <= dispute.due_ms:
            return NOT_DUE
        require(dispute.steps < STEPS_MAX, "too_many_steps")
        if not dispute.marked:
            if Record(self.record.get()).mark(ctx.sender, agency, record_id) == 0:
                return UNKNOWN_RECORD
        complaint = dispute.replace(
            state=ESCALATED, outcome=0, due_ms=ctx.time_ms + THIRTY_DAYS_MS, overdue=False, marked=True
        )
        self._step(ctx.sender, agency, record_id, complaint, ground)
        return OK

    @external
    def decide(self, subject: Address, agency: Address, record_id: bytes, outcome: int, decision: bytes) -> str:
        """The arbiter decides a complaint; the same three outcomes."""
        self._require_role(ARBITER)
        require(outcome in (CORRECTED, UPHELD, UNVERIFIABLE), "malformed_outcome")
        require(len(decision) == 32, "malformed_fingerprint")
        dispute = self.disputes.get((subject, agency, record_id), None)
        if dispute is None:
            return UNKNOWN
        if dispute.state != ESCALATED:
            return NOT_OPEN
        return self._end(subject, agency, record_id, dispute, DECIDED, outcome, decision)

    @external
    def overdue(self, subject: Address, agency: Address, record_id: bytes) -> str:
        """Anyone: says once, by an event, that the date has passed without an answer."""
        dispute = self.disputes.get((subject, agency, record_id), None)
        if dispute is None:
            return UNKNOWN
        if dispute.state == RESOLVED or dispute.state == DECIDED:
            return NOT_OPEN
        if ctx.time_ms <= dispute.due_ms:
            return NOT_DUE
        if dispute.overdue:
            return REPORTED
        self.disputes[(subject, agency, record_id)] = dispute.replace(overdue=True)
        emit(ObjectionOverdue(subject=subject, agency=agency, record_id=record_id, due_ms=dispute.due_ms))
        return OK

    @view
    def dispute(self, subject: Address, agency: Address, record_id: bytes) -> Dispute | None:
        """The latest objection, in a signed read of the subject, the agency, the arbiter or the regulator."""
        self._require_reader(subject, agency)
        return self.disputes.get((subject, agency, record_id), None)

    @view
    def list_steps(self, subject: Address, agency: Address, record_id: bytes, first: int, limit: int) -> tuple[Step, ...]:
        """At most 100 steps from number `first`, oldest first; the same readers."""
        self._require_reader(subject, agency)
        require(first >= 0 and limit > 0, "malformed_page")
        dispute = self.disputes.get((subject, agency, record_id), None)
        count = 0 if dispute is None else dispute.steps
        last = min(first + min(limit, PAGE), count)
        return [self.history[(subject, agency, record_id, number)] for number in range(first, last)]

    def _end(
        self, subject: Address, agency: Address, record_id: bytes, dispute: Dispute, state: int, outcome: int,
        paper: bytes,
    ) -> str:
        record = Record(self.record.get())
        if outcome == CORRECTED and record.version(subject, agency, record_id) <= dispute.version:
            return NOT_CORRECTED
        keeps_mark = outcome == UNVERIFIABLE
        if not keeps_mark:
            record.unmark(subject, agency, record_id)
        ended = dispute.replace(state=state, outcome=outcome, marked=keeps_mark)
        self._step(subject, agency, record_id, ended, paper)
        return OK

    def _step(self, subject: Address, agency: Address, record_id: bytes, dispute: Dispute, paper: bytes):
        self.history[(subject, agency, record_id, dispute.steps)] = Step(
            time_ms=ctx.time_ms, by=ctx.sender, state=dispute.state, outcome=dispute.outcome, paper=paper
        )
        self.disputes[(subject, agency, record_id)] = dispute.replace(steps=dispute.steps + 1)
        emit(
            ObjectionStep(
                subject=subject, agency=agency, record_id=record_id, state=dispute.state, outcome=dispute.outcome,
                due_ms=dispute.due_ms,
            )
        )

    def _require_role(self, roles: int):
        code = Registry(self.registry.get()).check(ctx.sender, roles)
        require(code == OK, code)

    def _require_reader(self, subject: Address, agency: Address):
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        if ctx.sender != subject and ctx.sender != agency:
            code = Registry(self.registry.get()).check(ctx.sender, REGULATOR | ARBITER)
            require(code == OK, "not_permitted")
