"""Credit records: one salted fingerprint per item, its dates and its marks; the item itself stays with the provider.

A provider submits to an agency under the subject's consent for collection. An adverse item needs the fingerprint of the
notice that was given to the person, unless its category is public by law (C2), and is in no report once five years have
passed since the end of the event, whatever was corrected meanwhile (C3). Nothing expires by itself: a report leaves an
old item out by the block's time, and `expire`, which anyone may call, turns it into a tombstone and tells the holder to
destroy the salt; the fingerprint on old blocks then points at nothing that can be recomputed.

Records are keyed by (subject, agency, record id), so different subjects never touch the same key.
"""

REGULATOR = 1
AGENCY = 4
PROVIDER = 8
SUBJECT = 32

PUBLIC_BY_LAW = 8
FORBIDDEN = 31744
CATEGORIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
COLLECTION = 9

FIVE_YEARS_MS = 157_680_000_000  # 5 x 365 days: at most five calendar years, never a day more
RECORDS_MAX = 128  # of one subject with one agency: bounds a report
CORRECTIONS_MAX = 100

ACTIVE = 1
EXPIRED = 2

OK = "ok"
EXISTS = "record_exists"
UNKNOWN = "unknown_record"
RECORD_EXPIRED = "record_expired"
NOT_EXPIRED = "not_expired_yet"
FORBIDDEN_CATEGORY = "forbidden_category"
NOTICE_MISSING = "notice_missing"
TOO_MANY = "too_many_records"
NOT_THE_HOLDER = "not_the_holder"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Consent(Interface):
    @view
    def check(
        self, subject: Address, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int
    ) -> str: ...


class Item(Struct):
    """`commitment`, `notice` and `statement` are fingerprints (32 bytes) or empty."""

    provider: Address
    category: int
    commitment: bytes
    adverse: bool
    event_end_ms: int
    notice: bytes
    statement: bytes
    version: int
    objections: int
    state: int


class Report(Struct):
    """`digest` chains the shown items in order of their ids, so that a report off chain can be compared item by item."""

    digest: bytes
    shown: int
    marked: int


class RecordSubmitted(Event):
    subject: Address
    agency: Address
    record_id: bytes
    provider: Address
    category: int


class SubmissionRefused(Event):
    subject: Address
    agency: Address
    provider: Address
    category: int
    code: str


class RecordCorrected(Event):
    subject: Address
    agency: Address
    record_id: bytes
    version: int
    by: Address


class RecordAnnotated(Event):
    subject: Address
    agency: Address
    record_id: bytes


class DestroySalt(Event):
    """To the holder: the item has expired, destroy the salt (and the item, as the law requires)."""

    holder: Address
    subject: Address
    agency: Address
    record_id: bytes


class Record(Contract):
    """Items, their earlier versions and their marks."""

    registry: Value[Address]
    consent: Value[Address]
    admin: Value[Address]
    order: Value[Address]
    self_report: Value[Address]
    objection: Value[Address]
    items: Map[tuple[Address, Address, bytes], Item]
    earlier: Map[tuple[Address, Address, bytes, int], bytes]
    counts: Map[tuple[Address, Address], int]

    def init(self, registry: Address, consent: Address, admin: Address):
        self.registry.set(registry)
        self.consent.set(consent)
        self.admin.set(admin)

    @external
    def connect(self, order: Address, self_report: Address, objection: Address):
        """Admin only, once: the contracts that may read for a report and the one that may mark."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.order.exists(), "already_connected")
        self.order.set(order)
        self.self_report.set(self_report)
        self.objection.set(objection)

    @external
    def submit(
        self, subject: Address, agency: Address, record_id: bytes, category: int, commitment: bytes, adverse: bool,
        event_end_ms: int, notice: bytes, consent_id: bytes,
    ) -> str:
        """The provider (the sender) submits an item. `event_end_ms` matters for adverse items only.

        `notice` is the fingerprint of the prior notice, or empty; `consent_id` names the subject's consent for
        collection, or is empty for a category that is public by law. Answers `ok` or why not; a refusal is an event.
        """
        self._require_role(ctx.sender, PROVIDER)
        require(len(record_id) == 32 and len(commitment) == 32, "malformed_fingerprint")
        require(len(notice) == 0 or len(notice) == 32, "malformed_fingerprint")
        require(category in CATEGORIES, "malformed_category")
        require(0 <= event_end_ms and event_end_ms <= ctx.time_ms, "malformed_event_end")
        code = self._submission(subject, agency, record_id, category, adverse, event_end_ms, notice, consent_id)
        if code != OK:
            emit(SubmissionRefused(subject=subject, agency=agency, provider=ctx.sender, category=category, code=code))
            return code
        self.items[(subject, agency, record_id)] = Item(
            provider=ctx.sender, category=category, commitment=commitment, adverse=adverse,
            event_end_ms=event_end_ms, notice=notice, statement=b"", version=1, objections=0, state=ACTIVE,
        )
        self.counts[(subject, agency)] = self.counts.get((subject, agency), 0) + 1
        emit(
            RecordSubmitted(subject=subject, agency=agency, record_id=record_id, provider=ctx.sender, category=category)
        )
        return OK

    @external
    def correct(self, subject: Address, agency: Address, record_id: bytes, commitment: bytes) -> str:
        """The item's provider or agency puts a new fingerprint; the old one stays in the history, the clock runs on."""
        self._require_role(ctx.sender, PROVIDER | AGENCY)
        require(len(commitment) == 32, "malformed_fingerprint")
        key = (subject, agency, record_id)
        item = self.items.get(key, None)
        if item is None:
            return UNKNOWN
        if ctx.sender != item.provider and ctx.sender != agency:
            return NOT_THE_HOLDER
        if item.state == EXPIRED or self._is_over(item):
            return RECORD_EXPIRED
        require(item.version <= CORRECTIONS_MAX, "too_many_corrections")
        self.earlier[(subject, agency, record_id, item.version)] = item.commitment
        self.items[key] = item.replace(commitment=commitment, version=item.version + 1)
        emit(
            RecordCorrected(
                subject=subject, agency=agency, record_id=record_id, version=item.version + 1, by=ctx.sender
            )
        )
        return OK

    @external
    def annotate(self, agency: Address, record_id: bytes, statement: bytes) -> str:
        """The subject (the sender) attaches the fingerprint of a statement; reports carry it from now on."""
        self._require_role(ctx.sender, SUBJECT)
        require(len(statement) == 32, "malformed_fingerprint")
        key = (ctx.sender, agency, record_id)
        item = self.items.get(key, None)
        if item is None:
            return UNKNOWN
        if item.state == EXPIRED:
            return RECORD_EXPIRED
        self.items[key] = item.replace(statement=statement)
        emit(RecordAnnotated(subject=ctx.sender, agency=agency, record_id=record_id))
        return OK

    @external
    def expire(self, subject: Address, agency: Address, record_id: bytes) -> str:
        """Anyone: if five years are over, leave a tombstone and tell the holder to destroy the salt (C3)."""
        key = (subject, agency, record_id)
        item = self.items.get(key, None)
        if item is None:
            return UNKNOWN
        if item.state == EXPIRED:
            return RECORD_EXPIRED
        if not self._is_over(item):
            return NOT_EXPIRED
        self.items[key] = item.replace(state=EXPIRED, commitment=b"", notice=b"", statement=b"")
        for version in range(1, item.version):
            del self.earlier[(subject, agency, record_id, version)]
        emit(DestroySalt(holder=item.provider, subject=subject, agency=agency, record_id=record_id))
        return OK

    @external
    def mark(self, subject: Address, agency: Address, record_id: bytes) -> int:
        """Objection contract only: one more objection on the item; its version, or 0 if there is no such item."""
        require(ctx.sender == self.objection.get(), "not_the_objection_contract")
        key = (subject, agency, record_id)
        item = self.items.get(key, None)
        if item is None or item.state == EXPIRED:
            return 0
        self.items[key] = item.replace(objections=item.objections + 1)
        return item.version

    @external
    def unmark(self, subject: Address, agency: Address, record_id: bytes) -> int:
        """Objection contract only: takes one mark away; the item's version, or 0 if it has expired."""
        require(ctx.sender == self.objection.get(), "not_the_objection_contract")
        key = (subject, agency, record_id)
        item = self.items[key]
        require(item.objections > 0, "not_marked")
        self.items[key] = item.replace(objections=item.objections - 1)
        return item.version

    @view
    def version(self, subject: Address, agency: Address, record_id: bytes) -> int:
        """How many fingerprints the item has had; 0 if there is no such item."""
        item = self.items.get((subject, agency, record_id), None)
        return 0 if item is None else item.version

    @view
    def read(self, subject: Address, agency: Address, scope: int) -> Report:
        """Order and self-report contracts only: what a report of these categories shows at this block's time."""
        permitted = ctx.sender == self.order.get() or ctx.sender == self.self_report.get()
        require(permitted, "not_a_contract_of_the_suite")
        digest = sha256(encode("report", subject, agency, scope))
        shown = 0
        marked = 0
        for key, item in self.items.scan(subject, agency):
            if item.state == ACTIVE and item.category & scope != 0 and not self._is_over(item):
                shown += 1
                if item.objections > 0:
                    marked += 1
                digest = sha256(
                    encode(digest, key[2], item.commitment, item.adverse, item.objections > 0, item.statement)
                )
        return Report(digest=digest, shown=shown, marked=marked)

    @view
    def item(self, subject: Address, agency: Address, record_id: bytes) -> Item | None:
        """The stored item, in a signed read of the subject, its provider, its agency or the regulator (C6)."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        item = self.items.get((subject, agency, record_id), None)
        permitted = ctx.sender == subject or ctx.sender == agency
        if not permitted and item is not None:
            permitted = ctx.sender == item.provider
        if not permitted:
            permitted = Registry(self.registry.get()).check(ctx.sender, REGULATOR) == OK
        require(permitted, "not_permitted")
        return item

    def _submission(
        self, subject: Address, agency: Address, record_id: bytes, category: int, adverse: bool, event_end_ms: int,
        notice: bytes, consent_id: bytes,
    ) -> str:
        if category & FORBIDDEN != 0:
            return FORBIDDEN_CATEGORY
        registry = Registry(self.registry.get())
        code = registry.check(agency, AGENCY)
        if code == OK:
            code = registry.check(subject, SUBJECT)
        if code != OK:
            return code
        if adverse and event_end_ms + FIVE_YEARS_MS <= ctx.time_ms:
            return RECORD_EXPIRED
        if category != PUBLIC_BY_LAW:
            if adverse and len(notice) == 0:
                return NOTICE_MISSING
            code = Consent(self.consent.get()).check(subject, consent_id, ctx.sender, agency, category, COLLECTION)
            if code != OK:
                return code
        if (subject, agency, record_id) in self.items:
            return EXISTS
        if self.counts.get((subject, agency), 0) >= RECORDS_MAX:
            return TOO_MANY
        return OK

    def _is_over(self, item: Item) -> bool:
        return item.adverse and item.event_end_ms + FIVE_YEARS_MS <= ctx.time_ms

    def _require_role(self, account: Address, roles: int):
        code = Registry(self.registry.get()).check(account, roles)
        require(code == OK, code)
