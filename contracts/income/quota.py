"""What one attested income already backs: parts per 10,000 of it, over all verifiers (V4).

A lender counts what it lends against as parts per 10,000 of the attested income, rounded up, off chain; the chain adds
parts and never sees an amount (V10). Per subject, year and purpose, what is reserved and committed is at most 10,000.
A reservation is committed or cancelled by its verifier, or lapses; none of these ends is ever undone (V12).

A verifier repeats subject, year and purpose in every call, so that the arguments alone say which keys are touched.
"""

QUOTA = 4
WHOLE = 10_000
HOLD_MS_MAX = 2_592_000_000  # a reservation lasts at most 30 days

RESERVED = 1
COMMITTED = 2
CANCELLED = 3
LAPSED = 4

OK = "ok"
SIMULATED = "simulated_read"
EXISTS = "reservation_exists"
UNKNOWN = "unknown_reservation"
EXCEEDED = "quota_exceeded"
NO_CONSENT = "no_consent"
UNKNOWN_ATTESTATION = "unknown_attestation"
NOT_RESERVED = "not_reserved"
HAS_LAPSED = "reservation_lapsed"
NOT_LAPSED = "not_lapsed_yet"


class Issuer(Interface):
    @view
    def is_regulator(self, account: Address) -> bool: ...


class Attest(Interface):
    @view
    def backs(self, subject: Address, attestation_id: bytes, year: int) -> str: ...


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


class Reservation(Struct):
    subject: Address
    year: int
    purpose: int
    parts: int
    expires_ms: int
    state: int


class QuotaChanged(Event):
    """Says that a subject's quota changed, not by whom."""

    subject: Address
    year: int
    purpose: int


class Quota(Contract):
    """Totals by (subject, year, purpose), reservations by (verifier, reservation id)."""

    issuer: Value[Address]
    attest: Value[Address]
    consent: Value[Address]
    usage: Value[Address]
    totals: Map[tuple[Address, int, int], int]
    reservations: Map[tuple[Address, bytes], Reservation]

    def init(self, issuer: Address, attest: Address, consent: Address, usage: Address):
        self.issuer.set(issuer)
        self.attest.set(attest)
        self.consent.set(consent)
        self.usage.set(usage)

    @external
    def reserve(
        self, subject: Address, grant_id: bytes, attestation_id: bytes, year: int, purpose: int,
        reservation_id: bytes, parts: int, expires_ms: int,
    ) -> str:
        """The verifier (the sender), under a consent for QUOTA, sets parts of the income aside: `ok` or why not.

        Takes one use of the consent if an answer about the attestation or the quota is given.
        """
        if ctx.is_query:
            return SIMULATED
        require(len(grant_id) == 32 and len(attestation_id) == 32 and len(reservation_id) == 32, "malformed_id")
        require(0 < parts and parts <= WHOLE, "malformed_parts")
        require(ctx.time_ms < expires_ms and expires_ms <= ctx.time_ms + HOLD_MS_MAX, "malformed_expiry")
        consent = Consent(self.consent.get())
        code = consent.check(subject, grant_id, ctx.sender, attestation_id, purpose, QUOTA)
        if code == OK and (ctx.sender, reservation_id) in self.reservations:
            code = EXISTS
        elif code == OK:
            code = Attest(self.attest.get()).backs(subject, attestation_id, year)
            if code == UNKNOWN_ATTESTATION:
                code = NO_CONSENT
            else:
                consent.use(subject, grant_id, ctx.sender, attestation_id, purpose, QUOTA)
        if code == OK:
            code = self._set_aside(subject, year, purpose, reservation_id, parts, expires_ms)
        Usage(self.usage.get()).append(subject, ctx.sender, grant_id, purpose, QUOTA, code)
        return code

    @external
    def commit(self, subject: Address, year: int, purpose: int, reservation_id: bytes) -> str:
        """The verifier lends: its reservation stays counted until it cancels."""
        reservation = self._own(ctx.sender, subject, year, purpose, reservation_id)
        if reservation is None:
            return UNKNOWN
        if reservation.state != RESERVED:
            return NOT_RESERVED
        if reservation.expires_ms <= ctx.time_ms:
            return HAS_LAPSED
        self.reservations[(ctx.sender, reservation_id)] = reservation.replace(state=COMMITTED)
        return OK

    @external
    def cancel(self, subject: Address, year: int, purpose: int, reservation_id: bytes) -> str:
        """The verifier gives the parts back: it does not lend, or it has been repaid."""
        reservation = self._own(ctx.sender, subject, year, purpose, reservation_id)
        if reservation is None:
            return UNKNOWN
        if reservation.state != RESERVED and reservation.state != COMMITTED:
            return NOT_RESERVED
        self._release(ctx.sender, reservation_id, reservation, subject, year, purpose, CANCELLED)
        return OK

    @external
    def lapse(self, verifier: Address, subject: Address, year: int, purpose: int, reservation_id: bytes) -> str:
        """Anyone: gives back what was reserved, never committed, and is out of date."""
        reservation = self._own(verifier, subject, year, purpose, reservation_id)
        if reservation is None:
            return UNKNOWN
        if reservation.state != RESERVED:
            return NOT_RESERVED
        if reservation.expires_ms > ctx.time_ms:
            return NOT_LAPSED
        self._release(verifier, reservation_id, reservation, subject, year, purpose, LAPSED)
        return OK

    @view
    def total(self, subject: Address, year: int, purpose: int) -> int:
        """Parts per 10,000 reserved and committed, in a signed read of the subject or the regulator."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        if ctx.sender != subject:
            require(Issuer(self.issuer.get()).is_regulator(ctx.sender), "not_permitted")
        return self.totals.get((subject, year, purpose), 0)

    def _set_aside(
        self, subject: Address, year: int, purpose: int, reservation_id: bytes, parts: int, expires_ms: int
    ) -> str:
        total = self.totals.get((subject, year, purpose), 0)
        if total + parts > WHOLE:
            return EXCEEDED
        self.totals[(subject, year, purpose)] = total + parts
        self.reservations[(ctx.sender, reservation_id)] = Reservation(
            subject=subject, year=year, purpose=purpose, parts=parts, expires_ms=expires_ms, state=RESERVED
        )
        emit(QuotaChanged(subject=subject, year=year, purpose=purpose))
        return OK

    def _own(
        self, verifier: Address, subject: Address, year: int, purpose: int, reservation_id: bytes
    ) -> Reservation | None:
        reservation = self.reservations.get((verifier, reservation_id), None)
        if reservation is not None:
            same = reservation.subject == subject and reservation.year == year and reservation.purpose == purpose
            require(same, "reservation_mismatch")
        return reservation

    def _release(
        self, verifier: Address, reservation_id: bytes, reservation: Reservation, subject: Address, year: int,
        purpose: int, state: int,
    ):
        self.reservations[(verifier, reservation_id)] = reservation.replace(state=state)
        total = self.totals[(subject, year, purpose)] - reservation.parts
        self.totals[(subject, year, purpose)] = total
        emit(QuotaChanged(subject=subject, year=year, purpose=purpose))
