"""Who may attest income, of which kinds, with which key (V3).

An issuer is known by a governing account that stays, and attests with a key account that it can rotate. A rotated key is
retired: it attests nothing new, what it attested stays good. A revoked key (stolen, misused) takes everything it ever
attested with it. A key account belongs to one issuer, once.
"""

# Kinds of income, one bit each; WITNESS is the right to confirm what another issuer attested.
SALARY = 1
TAX_ASSESSMENT = 2
PENSION = 4
BUSINESS = 8
RENT = 16
WITNESS = 1024
KINDS_ALL = 1055

ACTIVE = 1
RETIRED = 2
REVOKED = 3

OK = "ok"
EXISTS = "issuer_exists"
UNKNOWN = "unknown_issuer"
UNKNOWN_KEY = "unknown_key"
KEY_EXISTS = "key_exists"
KEY_RETIRED = "key_retired"
KEY_REVOKED = "key_revoked"
SUSPENDED = "issuer_suspended"
KIND_NOT_REGISTERED = "kind_not_registered"


class Organisation(Struct):
    """`key` attests at present; `kinds` is a sum of kind bits."""

    key: Address
    kinds: int
    suspended: bool


class Key(Struct):
    issuer: Address
    state: int


class IssuerRegistered(Event):
    issuer: Address
    key: Address
    kinds: int


class KeyRotated(Event):
    issuer: Address
    key: Address


class KeyRevoked(Event):
    issuer: Address
    key: Address


class IssuerSuspended(Event):
    issuer: Address
    suspended: bool


class Issuer(Contract):
    """Issuers by governing account, and every key that ever attested."""

    operator: Value[Address]
    regulator: Value[Address]
    issuers: Map[Address, Organisation]
    keys: Map[Address, Key]

    def init(self, regulator: Address, operator: Address):
        """The operator registers; the regulator may suspend, and reads logs."""
        self.regulator.set(regulator)
        self.operator.set(operator)

    @external
    def register(self, issuer: Address, key: Address, kinds: int) -> str:
        """Operator only: `ok`, `issuer_exists` or `key_exists`."""
        require(ctx.sender == self.operator.get(), "not_the_operator")
        require(0 < kinds and kinds & KINDS_ALL == kinds, "malformed_kinds")
        if issuer in self.issuers:
            return EXISTS
        if key in self.keys:
            return KEY_EXISTS
        self.issuers[issuer] = Organisation(key=key, kinds=kinds, suspended=False)
        self.keys[key] = Key(issuer=issuer, state=ACTIVE)
        emit(IssuerRegistered(issuer=issuer, key=key, kinds=kinds))
        return OK

    @external
    def rotate(self, key: Address) -> str:
        """The issuer (the sender) attests with a new key from now on; attestations of the old one stay good."""
        issuer = self.issuers.get(ctx.sender, None)
        if issuer is None:
            return UNKNOWN
        if issuer.suspended:
            return SUSPENDED
        if key in self.keys:
            return KEY_EXISTS
        old = self.keys[issuer.key]
        if old.state == ACTIVE:
            self.keys[issuer.key] = old.replace(state=RETIRED)
        self.keys[key] = Key(issuer=ctx.sender, state=ACTIVE)
        self.issuers[ctx.sender] = issuer.replace(key=key)
        emit(KeyRotated(issuer=ctx.sender, key=key))
        return OK

    @external
    def revoke_key(self, key: Address) -> str:
        """The key's issuer or the operator: nothing that this key attested is good any more, for good."""
        entry = self.keys.get(key, None)
        if entry is None:
            return UNKNOWN_KEY
        require(ctx.sender == entry.issuer or ctx.sender == self.operator.get(), "not_permitted")
        if entry.state == REVOKED:
            return KEY_REVOKED
        self.keys[key] = entry.replace(state=REVOKED)
        emit(KeyRevoked(issuer=entry.issuer, key=key))
        return OK

    @external
    def suspend(self, issuer: Address, suspended: bool) -> str:
        """Regulator only: a suspended issuer attests and rotates nothing; what it attested before stays good."""
        require(ctx.sender == self.regulator.get(), "not_the_regulator")
        organisation = self.issuers.get(issuer, None)
        if organisation is None:
            return UNKNOWN
        self.issuers[issuer] = organisation.replace(suspended=suspended)
        emit(IssuerSuspended(issuer=issuer, suspended=suspended))
        return OK

    @view
    def may_attest(self, key: Address, kind: int) -> str:
        """`ok` if this key may attest this kind now, else why not."""
        entry = self.keys.get(key, None)
        if entry is None:
            return UNKNOWN_KEY
        if entry.state == RETIRED:
            return KEY_RETIRED
        if entry.state == REVOKED:
            return KEY_REVOKED
        issuer = self.issuers[entry.issuer]
        if issuer.suspended:
            return SUSPENDED
        if kind & issuer.kinds != kind:
            return KIND_NOT_REGISTERED
        return OK

    @view
    def is_revoked(self, key: Address) -> bool:
        entry = self.keys.get(key, None)
        return entry is None or entry.state == REVOKED

    @view
    def issuer_of(self, key: Address) -> Address | None:
        """The governing account behind a key, retired and revoked ones too."""
        entry = self.keys.get(key, None)
        return None if entry is None else entry.issuer

    @view
    def is_regulator(self, account: Address) -> bool:
        return account == self.regulator.get()

    @view
    def organisation(self, issuer: Address) -> Organisation | None:
        return self.issuers.get(issuer, None)
