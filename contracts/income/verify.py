"""Verification: a verifier submits the fingerprint of the document it was handed, the chain answers and logs.

The verifier computes the fingerprint off chain from the document and the salt that the subject gave it; only these 32
bytes travel (V10). The answer is `match` iff they equal the anchored ones and the attestation is live (V1). Without
consent the answer is `no_consent`, the same whether the attestation exists or not (V2). Every answer about an
attestation takes one use of the consent, a match or not, in the same transaction, so a one-time consent is used once.
A presentation nonce of a verifier is accepted once (V5). Revocation and verification in one block are decided by the
order of the transactions alone, since each reads what the one before it wrote (V8).
"""

VERIFY = 1
BANDS = 2
BANDS_MAX = 32

OK = "ok"
SIMULATED = "simulated_read"
NONCE_USED = "nonce_used"
NO_CONSENT = "no_consent"
UNKNOWN = "unknown_attestation"


class Issuer(Interface):
    @view
    def is_regulator(self, account: Address) -> bool: ...


class Attest(Interface):
    @view
    def answer(self, subject: Address, attestation_id: bytes, fingerprint: bytes) -> str: ...

    @view
    def answer_band(self, subject: Address, attestation_id: bytes, band: int, proof: bytes) -> str: ...


class Consent(Interface):
    @view
    def check(
        self, subject: Address, grant_id: bytes, verifier: Address, attestation_id: bytes, purpose: int, way: int
    ) -> str: ...

    @external
    def use(
        self, subject: Address, grant_id: bytes, verifier: Address, attestation_id: bytes, purpose: int, way: int
    ) -> str: ...


class Usage(Interface):
    @external
    def append(
        self, subject: Address, verifier: Address, grant_id: bytes, purpose: int, way: int, code: str
    ) -> int: ...


class Result(Struct):
    """What a nonce was answered; `band` is 0 for a whole document."""

    subject: Address
    time_ms: int
    band: int
    code: str


class Verify(Contract):
    """Results by (verifier, nonce)."""

    issuer: Value[Address]
    attest: Value[Address]
    consent: Value[Address]
    usage: Value[Address]
    results: Map[tuple[Address, bytes], Result]

    def init(self, issuer: Address, attest: Address, consent: Address, usage: Address):
        self.issuer.set(issuer)
        self.attest.set(attest)
        self.consent.set(consent)
        self.usage.set(usage)

    @external
    def submit(
        self, subject: Address, grant_id: bytes, attestation_id: bytes, purpose: int, nonce: bytes,
        fingerprint: bytes,
    ) -> str:
        """The verifier (the sender) asks whether the document it was handed is the attested one.

        Answers `match`, `mismatch`, `revoked`, `superseded`, `expired`; or, without a valid consent, `no_consent`,
        `consent_revoked`, `consent_expired`, `consent_used_up`; or `nonce_used`.
        """
        if ctx.is_query:
            return SIMULATED
        require(len(fingerprint) == 32, "malformed_fingerprint")
        code = self._may(subject, grant_id, attestation_id, purpose, nonce, VERIFY)
        if code == OK:
            code = Attest(self.attest.get()).answer(subject, attestation_id, fingerprint)
            code = self._consume(subject, grant_id, attestation_id, purpose, VERIFY, code)
        return self._record(subject, grant_id, purpose, nonce, VERIFY, 0, code)

    @external
    def submit_band(
        self, subject: Address, grant_id: bytes, attestation_id: bytes, purpose: int, nonce: bytes, band: int,
        proof: bytes,
    ) -> str:
        """The verifier asks whether the attested income reaches the public threshold number `band`, counted from 1.

        The same answers as `submit`; `mismatch` says that this proof does not show it.
        """
        if ctx.is_query:
            return SIMULATED
        require(len(proof) == 32, "malformed_proof")
        require(0 < band and band <= BANDS_MAX, "malformed_band")
        code = self._may(subject, grant_id, attestation_id, purpose, nonce, BANDS)
        if code == OK:
            code = Attest(self.attest.get()).answer_band(subject, attestation_id, band, proof)
            code = self._consume(subject, grant_id, attestation_id, purpose, BANDS, code)
        return self._record(subject, grant_id, purpose, nonce, BANDS, band, code)

    @view
    def result(self, verifier: Address, nonce: bytes) -> Result | None:
        """What was answered, in a signed read of the verifier, the subject or the regulator; None if nothing was."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        result = self.results.get((verifier, nonce), None)
        permitted = ctx.sender == verifier or (result is not None and ctx.sender == result.subject)
        require(permitted or Issuer(self.issuer.get()).is_regulator(ctx.sender), "not_permitted")
        return result

    def _may(
        self, subject: Address, grant_id: bytes, attestation_id: bytes, purpose: int, nonce: bytes, way: int
    ) -> str:
        require(len(grant_id) == 32 and len(attestation_id) == 32, "malformed_id")
        require(len(nonce) == 16, "malformed_nonce")
        if (ctx.sender, nonce) in self.results:
            return NONCE_USED
        return Consent(self.consent.get()).check(subject, grant_id, ctx.sender, attestation_id, purpose, way)

    def _consume(
        self, subject: Address, grant_id: bytes, attestation_id: bytes, purpose: int, way: int, answer: str
    ) -> str:
        if answer == UNKNOWN:  # a grant on nothing: the same answer as no grant, and nothing to use
            return NO_CONSENT
        Consent(self.consent.get()).use(subject, grant_id, ctx.sender, attestation_id, purpose, way)
        return answer

    def _record(
        self, subject: Address, grant_id: bytes, purpose: int, nonce: bytes, way: int, band: int, code: str
    ) -> str:
        if code != NONCE_USED:
            self.results[(ctx.sender, nonce)] = Result(subject=subject, time_ms=ctx.time_ms, band=band, code=code)
        Usage(self.usage.get()).append(subject, ctx.sender, grant_id, purpose, way, code)
        return code
