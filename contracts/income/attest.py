"""Attestations: an issuer anchors the salted fingerprint of a document that it handed to the subject.

On chain are the subject's account, a blinded id, the kind and the year of the income, the fingerprint and dates; never an
amount, a name or a document number (V10). An attestation ends by revocation, by a successor or by time, and nothing
brings it back (V12). A successor is a line, never a fork: what has been superseded once cannot be again (V7).

`answer` is the only place that decides a match (V1). Whether an attestation exists is nobody's business without consent,
so only the verify and quota contracts, which check consent first, may ask (V2).
"""

WITNESS = 1024
KINDS = (1, 2, 4, 8, 16)
YEAR_MIN = 1900
YEAR_MAX = 2999
DURATION_MS_MAX = 94_608_000_000  # three years of 365 days
BANDS_MAX = 32
WITNESSES_MAX = 8

LIVE = 1
REVOKED_STATE = 2
SUPERSEDED_STATE = 3

OK = "ok"
EXISTS = "attestation_exists"
UNKNOWN = "unknown_attestation"
NOT_THE_ISSUER = "not_the_issuer"
REVOKED = "revoked"
SUPERSEDED = "superseded"
EXPIRED = "expired"
MATCH = "match"
MISMATCH = "mismatch"
OTHER_YEAR = "other_year"
TOO_MANY = "too_many_witnesses"


class Issuer(Interface):
    @view
    def may_attest(self, key: Address, kind: int) -> str: ...

    @view
    def is_revoked(self, key: Address) -> bool: ...

    @view
    def issuer_of(self, key: Address) -> Address | None: ...


class Attestation(Struct):
    """`bands` is the anchor of the band proofs or empty; `previous` and `successor` are ids or empty."""

    key: Address
    issuer: Address
    kind: int
    year: int
    fingerprint: bytes
    bands: bytes
    expires_ms: int
    state: int
    previous: bytes
    successor: bytes
    witnesses: int


class Attested(Event):
    issuer: Address
    attestation_id: bytes
    previous: bytes


class AttestationRevoked(Event):
    issuer: Address
    attestation_id: bytes


class Witnessed(Event):
    attestation_id: bytes
    witness: Address


class Attest(Contract):
    """Attestations by (subject, blinded id of 32 bytes)."""

    issuer: Value[Address]
    admin: Value[Address]
    verify: Value[Address]
    quota: Value[Address]
    attestations: Map[tuple[Address, bytes], Attestation]
    witnesses: Map[tuple[Address, bytes, Address], bool]

    def init(self, issuer: Address, admin: Address):
        self.issuer.set(issuer)
        self.admin.set(admin)

    @external
    def connect(self, verify: Address, quota: Address):
        """Admin only, once: the contracts that may ask, because they check consent."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.verify.exists(), "already_connected")
        self.verify.set(verify)
        self.quota.set(quota)

    @external
    def issue(
        self, subject: Address, attestation_id: bytes, kind: int, year: int, fingerprint: bytes, bands: bytes,
        expires_ms: int,
    ) -> str:
        """An issuer's key (the sender) anchors a document about the subject: `ok` or why not."""
        code = self._issuance(subject, attestation_id, kind, year, fingerprint, bands, expires_ms)
        if code == OK:
            self._add(subject, attestation_id, kind, year, fingerprint, bands, expires_ms, b"")
        return code

    @external
    def supersede(
        self, subject: Address, previous: bytes, attestation_id: bytes, fingerprint: bytes, bands: bytes,
        expires_ms: int,
    ) -> str:
        """A key of the same issuer replaces a live attestation by a corrected one of the same kind and year."""
        old = self.attestations.get((subject, previous), None)
        if old is None:
            return UNKNOWN
        code = self._end_of(old)
        if code != OK:
            return code
        code = self._issuance(subject, attestation_id, old.kind, old.year, fingerprint, bands, expires_ms)
        if code != OK:
            return code
        if Issuer(self.issuer.get()).issuer_of(ctx.sender) != old.issuer:
            return NOT_THE_ISSUER
        self.attestations[(subject, previous)] = old.replace(state=SUPERSEDED_STATE, successor=attestation_id)
        self._add(subject, attestation_id, old.kind, old.year, fingerprint, bands, expires_ms, previous)
        return OK

    @external
    def revoke(self, subject: Address, attestation_id: bytes) -> str:
        """The issuer, by its governing account or by a key that may attest, takes the attestation back for good."""
        old = self.attestations.get((subject, attestation_id), None)
        if old is None:
            return UNKNOWN
        issuer = Issuer(self.issuer.get())
        if ctx.sender != old.issuer:
            code = issuer.may_attest(ctx.sender, old.kind)
            if code != OK or issuer.issuer_of(ctx.sender) != old.issuer:
                return NOT_THE_ISSUER
        if old.state == REVOKED_STATE:
            return REVOKED
        if old.state == SUPERSEDED_STATE:
            return SUPERSEDED
        self.attestations[(subject, attestation_id)] = old.replace(state=REVOKED_STATE)
        emit(AttestationRevoked(issuer=old.issuer, attestation_id=attestation_id))
        return OK

    @external
    def witness(self, subject: Address, attestation_id: bytes) -> str:
        """A key with the right to witness, of another issuer, confirms a live attestation."""
        issuer = Issuer(self.issuer.get())
        code = issuer.may_attest(ctx.sender, WITNESS)
        require(code == OK, code)
        old = self.attestations.get((subject, attestation_id), None)
        if old is None:
            return UNKNOWN
        code = self._end_of(old)
        if code != OK:
            return code
        key = (subject, attestation_id, ctx.sender)
        if issuer.issuer_of(ctx.sender) == old.issuer or key in self.witnesses:
            return EXISTS
        if old.witnesses >= WITNESSES_MAX:
            return TOO_MANY
        self.witnesses[key] = True
        self.attestations[(subject, attestation_id)] = old.replace(witnesses=old.witnesses + 1)
        emit(Witnessed(attestation_id=attestation_id, witness=ctx.sender))
        return OK

    @view
    def answer(self, subject: Address, attestation_id: bytes, fingerprint: bytes) -> str:
        """Verify contract only: `match` iff the fingerprints are equal and the attestation is live at block time (V1).

        Else `mismatch` (first, so that only who holds the document learns more), `revoked`, `superseded`, `expired`,
        or `unknown_attestation`, which the verify contract tells nobody.
        """
        require(ctx.sender == self.verify.get(), "not_the_verify_contract")
        old = self.attestations.get((subject, attestation_id), None)
        if old is None:
            return UNKNOWN
        if old.fingerprint != fingerprint:
            return MISMATCH
        code = self._end_of(old)
        return MATCH if code == OK else code

    @view
    def answer_band(self, subject: Address, attestation_id: bytes, band: int, proof: bytes) -> str:
        """Verify contract only: `match` iff the proof, hashed `band` times, is the anchor, and the attestation is live.

        A proof for a band makes one for every lower band by hashing it (V11).
        """
        require(ctx.sender == self.verify.get(), "not_the_verify_contract")
        old = self.attestations.get((subject, attestation_id), None)
        if old is None:
            return UNKNOWN
        for step in range(min(band, BANDS_MAX)):
            proof = sha256(proof)
        if len(old.bands) == 0 or old.bands != proof:
            return MISMATCH
        code = self._end_of(old)
        return MATCH if code == OK else code

    @view
    def backs(self, subject: Address, attestation_id: bytes, year: int) -> str:
        """Quota contract only: `ok` if the attestation is live and of that year."""
        require(ctx.sender == self.quota.get(), "not_the_quota_contract")
        old = self.attestations.get((subject, attestation_id), None)
        if old is None:
            return UNKNOWN
        if old.year != year:
            return OTHER_YEAR
        return self._end_of(old)

    @view
    def attestation(self, subject: Address, attestation_id: bytes) -> Attestation | None:
        """The attestation, in a signed read of its subject or of its issuer's governing account or key."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        old = self.attestations.get((subject, attestation_id), None)
        if ctx.sender != subject:
            require(old is not None and (ctx.sender == old.issuer or ctx.sender == old.key), "not_permitted")
        return old

    def _issuance(
        self, subject: Address, attestation_id: bytes, kind: int, year: int, fingerprint: bytes, bands: bytes,
        expires_ms: int,
    ) -> str:
        require(len(attestation_id) == 32 and len(fingerprint) == 32, "malformed_fingerprint")
        require(len(bands) == 0 or len(bands) == 32, "malformed_bands")
        require(kind in KINDS, "malformed_kind")
        require(YEAR_MIN <= year and year <= YEAR_MAX, "malformed_year")
        require(expires_ms <= ctx.time_ms + DURATION_MS_MAX, "malformed_expiry")
        code = Issuer(self.issuer.get()).may_attest(ctx.sender, kind)
        if code != OK:
            return code
        if expires_ms <= ctx.time_ms:
            return EXPIRED
        if (subject, attestation_id) in self.attestations:
            return EXISTS
        return OK

    def _add(
        self, subject: Address, attestation_id: bytes, kind: int, year: int, fingerprint: bytes, bands: bytes,
        expires_ms: int, previous: bytes,
    ):
        issuer = Issuer(self.issuer.get()).issuer_of(ctx.sender)
        self.attestations[(subject, attestation_id)] = Attestation(
            key=ctx.sender, issuer=issuer, kind=kind, year=year, fingerprint=fingerprint, bands=bands,
            expires_ms=expires_ms, state=LIVE, previous=previous, successor=b"", witnesses=0,
        )
        emit(Attested(issuer=issuer, attestation_id=attestation_id, previous=previous))

    def _end_of(self, old: Attestation) -> str:
        if old.state == REVOKED_STATE or Issuer(self.issuer.get()).is_revoked(old.key):
            return REVOKED
        if old.state == SUPERSEDED_STATE:
            return SUPERSEDED
        if old.expires_ms <= ctx.time_ms:
            return EXPIRED
        return OK
