"""Every use and attempted use of a subject's attestations, for the subject to see (V9).

Only the verify and quota contracts append, nothing deletes. The event says that something happened, not who did it, so
that an issuer that watches events does not learn the verifier from them (V6).
"""

PAGE = 100


class Issuer(Interface):
    @view
    def is_regulator(self, account: Address) -> bool: ...


class Use(Struct):
    """`way` is VERIFY, BANDS or QUOTA of the consent contract; `code` is the answer that was given."""

    time_ms: int
    height: int
    verifier: Address
    grant_id: bytes
    purpose: int
    way: int
    code: str


class UsageLogged(Event):
    subject: Address
    sequence: int


class Usage(Contract):
    """Uses by subject, numbered from 0 without gaps."""

    issuer: Value[Address]
    admin: Value[Address]
    verify: Value[Address]
    quota: Value[Address]
    counts: Map[Address, int]
    uses: Map[tuple[Address, int], Use]

    def init(self, issuer: Address, admin: Address):
        self.issuer.set(issuer)
        self.admin.set(admin)

    @external
    def connect(self, verify: Address, quota: Address):
        """Admin only, once: the contracts that may append."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.verify.exists(), "already_connected")
        self.verify.set(verify)
        self.quota.set(quota)

    @external
    def append(self, subject: Address, verifier: Address, grant_id: bytes, purpose: int, way: int, code: str) -> int:
        """Verify and quota contracts only: the entry's number."""
        permitted = ctx.sender == self.verify.get() or ctx.sender == self.quota.get()
        require(permitted, "not_a_contract_of_the_suite")
        sequence = self.counts.get(subject, 0)
        self.uses[(subject, sequence)] = Use(
            time_ms=ctx.time_ms, height=ctx.height, verifier=verifier, grant_id=grant_id, purpose=purpose, way=way,
            code=code,
        )
        self.counts[subject] = sequence + 1
        emit(UsageLogged(subject=subject, sequence=sequence))
        return sequence

    @view
    def count(self, subject: Address) -> int:
        """How many uses were attempted, in a signed read of the subject or the regulator."""
        self._require_reader(subject)
        return self.counts.get(subject, 0)

    @view
    def list_uses(self, subject: Address, first: int, limit: int) -> tuple[Use, ...]:
        """At most 100 uses from number `first`, oldest first, in a signed read of the subject or the regulator."""
        self._require_reader(subject)
        require(first >= 0 and limit > 0, "malformed_page")
        last = min(first + min(limit, PAGE), self.counts.get(subject, 0))
        return [self.uses[(subject, sequence)] for sequence in range(first, last)]

    def _require_reader(self, subject: Address):
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        if ctx.sender != subject:
            require(Issuer(self.issuer.get()).is_regulator(ctx.sender), "not_permitted")
