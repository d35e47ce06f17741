"""What a subject allows: who may see or collect what, through which agency, for which purpose, until when, how often.

Only the subject's own account grants and revokes (C9). A grant that is revoked, expired or used up never comes back;
a new grant needs a new id. `use` is called by the order contract at delivery and takes one use in the same transaction,
so two orders racing for the last use cannot both have it: the later one in block order finds it used up (C1).

Ids are 32 random bytes chosen by the subject's wallet. The key of a grant is (subject, id), so nobody can occupy
another's id, and grants of different subjects never touch the same key.
"""

SUBJECT = 32
REGULATOR = 1

# Data categories, one bit each. Scopes are sums of them.
ACCOUNTS = 1
REPAYMENT = 2
GUARANTEES = 4
PUBLIC_BY_LAW = 8  # court judgments, enforcement, administrative penalties
INCOME = 16
DEPOSITS = 32
SECURITIES = 64
INSURANCE = 128
REAL_ESTATE = 256
TAX = 512
SENSITIVE = 1008  # INCOME .. TAX: only with written consent after notice of the consequences (C5)
RELIGION = 1024
GENES = 2048
FINGERPRINTS = 4096
BLOOD_TYPE = 8192
DISEASE = 16384
FORBIDDEN = 31744  # RELIGION .. DISEASE: never collected, whatever anybody consents to (C5)
CATEGORIES_MAX = 32767

# Purposes: a closed list, because a purpose in free text cannot be checked.
LENDING = 1
AFTER_LENDING = 2
GUARANTEE = 3
CARD = 4
COLLECTION = 9  # a provider submits to an agency
PURPOSES = (LENDING, AFTER_LENDING, GUARANTEE, CARD, COLLECTION)

DURATION_MS_MAX = 157_680_000_000  # five years of 365 days
USES_MAX = 10_000

OK = "ok"
EXISTS = "consent_exists"
FORBIDDEN_CATEGORY = "forbidden_category"
NEEDS_EXPLICIT = "explicit_consent_missing"
NO_CONSENT = "no_consent"
REVOKED = "consent_revoked"
EXPIRED = "consent_expired"
USED_UP = "consent_used_up"
OTHER_PURPOSE = "consent_other_purpose"
OTHER_SCOPE = "consent_other_scope"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Grant(Struct):
    """`explicit`: given in writing after notice of the consequences, as sensitive categories require."""

    user: Address
    agency: Address
    scope: int
    purpose: int
    expires_ms: int
    uses_left: int
    explicit: bool
    revoked: bool


class ConsentGranted(Event):
    subject: Address
    consent_id: bytes
    user: Address
    agency: Address
    scope: int
    purpose: int
    expires_ms: int
    uses: int


class ConsentRevoked(Event):
    subject: Address
    consent_id: bytes


class ConsentUsed(Event):
    subject: Address
    consent_id: bytes
    uses_left: int


class Consent(Contract):
    """Grants by subjects. No grant is ever deleted."""

    registry: Value[Address]
    admin: Value[Address]
    order: Value[Address]
    record: Value[Address]
    grants: Map[tuple[Address, bytes], Grant]

    def init(self, registry: Address, admin: Address):
        """`admin` makes the order and record contracts known, once, by `connect`."""
        self.registry.set(registry)
        self.admin.set(admin)

    @external
    def connect(self, order: Address, record: Address):
        """Admin only, once: the contract that may use consents and the one that may ask about collection."""
        require(ctx.sender == self.admin.get(), "not_the_admin")
        require(not self.order.exists(), "already_connected")
        self.order.set(order)
        self.record.set(record)

    @external
    def grant(
        self, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int, expires_ms: int,
        uses: int, explicit: bool,
    ) -> str:
        """The subject (the sender) allows `user` to see, or with purpose COLLECTION to submit, data through `agency`.

        Answers `ok`, `forbidden_category`, `explicit_consent_missing`, `consent_expired` or `consent_exists`.
        """
        role = Registry(self.registry.get()).check(ctx.sender, SUBJECT)
        require(role == OK, role)
        require(len(consent_id) == 32, "malformed_consent_id")
        require(0 < scope and scope <= CATEGORIES_MAX, "malformed_scope")
        require(purpose in PURPOSES, "malformed_purpose")
        require(0 < uses and uses <= USES_MAX, "malformed_uses")
        require(expires_ms <= ctx.time_ms + DURATION_MS_MAX, "malformed_expiry")
        if scope & FORBIDDEN != 0:
            return FORBIDDEN_CATEGORY
        if scope & SENSITIVE != 0 and not explicit:
            return NEEDS_EXPLICIT
        if expires_ms <= ctx.time_ms:
            return EXPIRED
        key = (ctx.sender, consent_id)
        if key in self.grants:
            return EXISTS
        self.grants[key] = Grant(
            user=user, agency=agency, scope=scope, purpose=purpose, expires_ms=expires_ms, uses_left=uses,
            explicit=explicit, revoked=False,
        )
        emit(
            ConsentGranted(
                subject=ctx.sender, consent_id=consent_id, user=user, agency=agency, scope=scope, purpose=purpose,
                expires_ms=expires_ms, uses=uses,
            )
        )
        return OK

    @external
    def revoke(self, consent_id: bytes) -> str:
        """The subject takes the grant back, at once and for good; works for a suspended subject too."""
        grant = self.grants.get((ctx.sender, consent_id), None)
        if grant is None:
            return NO_CONSENT
        if grant.revoked:
            return REVOKED
        self.grants[(ctx.sender, consent_id)] = grant.replace(revoked=True)
        emit(ConsentRevoked(subject=ctx.sender, consent_id=consent_id))
        return OK

    @external
    def use(self, subject: Address, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int) -> str:
        """Order contract only: `ok` and one use fewer, or the reason why not and nothing changed (C1)."""
        require(ctx.sender == self.order.get(), "not_the_order_contract")
        code = self._check(subject, consent_id, user, agency, scope, purpose)
        if code != OK:
            return code
        grant = self.grants[(subject, consent_id)]
        self.grants[(subject, consent_id)] = grant.replace(uses_left=grant.uses_left - 1)
        emit(ConsentUsed(subject=subject, consent_id=consent_id, uses_left=grant.uses_left - 1))
        return OK

    @view
    def check(
        self, subject: Address, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int
    ) -> str:
        """Order and record contracts only: would this be allowed now? Takes no use."""
        require(ctx.sender == self.order.get() or ctx.sender == self.record.get(), "not_a_contract_of_the_suite")
        return self._check(subject, consent_id, user, agency, scope, purpose)

    @view
    def read(self, subject: Address, consent_id: bytes) -> Grant | None:
        """The grant, for the subject, the user, the agency and the regulator, in a signed read; None if there is none."""
        require(ctx.is_query and ctx.is_signed, "not_permitted")
        grant = self.grants.get((subject, consent_id), None)
        if ctx.sender == subject or Registry(self.registry.get()).check(ctx.sender, REGULATOR) == OK:
            return grant
        require(grant is not None and (ctx.sender == grant.user or ctx.sender == grant.agency), "not_permitted")
        return grant

    def _check(
        self, subject: Address, consent_id: bytes, user: Address, agency: Address, scope: int, purpose: int
    ) -> str:
        grant = self.grants.get((subject, consent_id), None)
        if grant is None or grant.user != user or grant.agency != agency:
            return NO_CONSENT
        if grant.purpose != purpose:
            return OTHER_PURPOSE
        if scope & grant.scope != scope:
            return OTHER_SCOPE
        if grant.revoked:
            return REVOKED
        if grant.expires_ms <= ctx.time_ms:
            return EXPIRED
        if grant.uses_left <= 0:
            return USED_UP
        return OK
