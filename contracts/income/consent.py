"""What a subject lets a verifier do with one attestation: for which purpose, in which ways, until when, how often.

Only the subject's account grants and revokes. A grant that is revoked, expired or used up never comes back (V12). Its id
is 32 random bytes of the subject's wallet. The subject sees every grant (V9). Neither an event nor a read tells the
issuer who the verifier is (V6); a verifier may use an account made for this one occasion.
"""

# Ways to use an attestation, one bit each.
VERIFY = 1
BANDS = 2
QUOTA = 4
WAYS_ALL = 7

PURPOSES = (1, 2, 3, 4, 5)  # lending, account opening, tenancy, visa, remittance
DURATION_MS_MAX = 94_608_000_000
USES_MAX = 1_000
PAGE = 100

OK = "ok"
EXISTS = "grant_exists"
NO_CONSENT = "no_consent"
REVOKED = "consent_revoked"
EXPIRED = "consent_expired"
USED_UP = "consent_used_up"


class Issuer(Interface):
    @view
    def is_regulator(self, account: Address) -> bool: ...


class Grant(Struct):
    """`ways` is a sum of VERIFY, BANDS and QUOTA."""

    verifier: Address
    attestation_id: bytes
    purpose: int
    ways: int
    expires_ms: int
    uses_left: int
    revoked: bool


class Granted(Event):
    subject: Address
    grant_id: bytes


class GrantRevoked(Event):
    subject: Address
    grant_id: bytes


class Consent(Contract):
    """Grants by (subject, grant id), numbered from 0 per subject. No grant is ever deleted."""

    issuer: Value[Address]
    admin: Value[Address]
    verify: Value[Address]
    quota: Value[Address]
    grants: Map[tuple[Address, bytes], Grant]
    counts: Map[Address, int]
    numbered: Map[tuple[Address, int], bytes]

    def init(self, issuer: Address, admin: Address):
        self.issuer.set(issuer)
        self.admin.set(admin)

    @external
    def connect(self, verify: Address, quota: Address):
        """Admin only, once: the contracts that may use grants."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.verify.exists(), "already_connected")
        self.verify.set(verify)
        self.quota.set(quota)

    @external
    def grant(
        self, grant_id: bytes, verifier: Address, attestation_id: bytes, purpose: int, ways: int, expires_ms: int,
        uses: int,
    ) -> str:
        """The subject (the sender) allows `verifier` to use an attestation; whether it exists is not checked (V2)."""
        require(len(grant_id) == 32 and len(attestation_id) == 32, "malformed_id")
        require(purpose in PURPOSES, "malformed_purpose")
        require(0 < ways and ways <= WAYS_ALL, "malformed_ways")
        require(0 < uses and uses <= USES_MAX, "malformed_uses")
        require(expires_ms <= ctx.time_ms + DURATION_MS_MAX, "malformed_expiry")
        if expires_ms <= ctx.time_ms:
            return EXPIRED
        key = (ctx.sender, grant_id)
        if key in self.grants:
            return EXISTS
        self.grants[key] = Grant(
            verifier=verifier, attestation_id=attestation_id, purpose=purpose, ways=ways, expires_ms=expires_ms,
            uses_left=uses, revoked=False,
        )
        number = self.counts.get(ctx.sender, 0)
        self.numbered[(ctx.sender, number)] = grant_id
        self.counts[ctx.sender] = number + 1
        emit(Granted(subject=ctx.sender, grant_id=grant_id))
        return OK

    @external
    def revoke(self, grant_id: bytes) -> str:
        """The subject (the sender) takes the grant back, at once and for good."""
        grant = self.grants.get((ctx.sender, grant_id), None)
        if grant is None:
            return NO_CONSENT
        if grant.revoked:
            return REVOKED
        self.grants[(ctx.sender, grant_id)] = grant.replace(revoked=True)
        emit(GrantRevoked(subject=ctx.sender, grant_id=grant_id))
        return OK

    @view
    def check(
        self, subject: Address, grant_id: bytes, verifier: Address, attestation_id: bytes, purpose: int, way: int
    ) -> str:
        """Verify and quota contracts only: may the verifier do this now? Takes no use."""
        self._require_contract()
        return self._check(subject, grant_id, verifier, attestation_id, purpose, way)

    @external
    def use(
        self, subject: Address, grant_id: bytes, verifier: Address, attestation_id: bytes, purpose: int, way: int
    ) -> str:
        """Verify and quota contracts only: `ok` and one use fewer, or why not and nothing changed."""
        self._require_contract()
        code = self._check(subject, grant_id, verifier, attestation_id, purpose, way)
        if code == OK:
            grant = self.grants[(subject, grant_id)]
            self.grants[(subject, grant_id)] = grant.replace(uses_left=grant.uses_left - 1)
        return code

    @view
    def list_grants(self, subject: Address, first: int, limit: int) -> tuple[Grant, ...]:
        """At most 100 grants from number `first`, oldest first, in a signed read of the subject or the regulator."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        if ctx.sender != subject:
            require(Issuer(self.issuer.get()).is_regulator(ctx.sender), "not_permitted")
        require(first >= 0 and limit > 0, "malformed_page")
        last = min(first + min(limit, PAGE), self.counts.get(subject, 0))
        return [self.grants[(subject, self.numbered[(subject, number)])] for number in range(first, last)]

    def _check(
        self, subject: Address, grant_id: bytes, verifier: Address, attestation_id: bytes, purpose: int, way: int
    ) -> str:
        grant = self.grants.get((subject, grant_id), None)
        if grant is None or grant.verifier != verifier or grant.attestation_id != attestation_id:
            return NO_CONSENT
        if grant.purpose != purpose or grant.ways & way == 0:
            return NO_CONSENT
        if grant.revoked:
            return REVOKED
        if grant.expires_ms <= ctx.time_ms:
            return EXPIRED
        if grant.uses_left <= 0:
            return USED_UP
        return OK

    def _require_contract(self):
        permitted = ctx.sender == self.verify.get() or ctx.sender == self.quota.get()
        require(permitted, "not_a_contract_of_the_suite")
