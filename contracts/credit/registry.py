"""Members of the credit reporting network: who may do what, and who may do nothing any more.

An account holds roles as bits. Roles that would let one party act for another do not mix (C9): a subject is nothing
else, an agency does not order from agencies, and those who supervise or decide do no business. The operator registers
institutions, institutions enrol the subjects they have identified, the regulator (or the operator) suspends, and only
the regulator reinstates. Every other contract of the suite asks `check` on each call, so a suspension works from the
next transaction on.
"""

REGULATOR = 1
OPERATOR = 2
AGENCY = 4
PROVIDER = 8
USER = 16
SUBJECT = 32
ARBITER = 64

INSTITUTION = 28  # AGENCY + PROVIDER + USER: those who do business
SUPERVISOR = 67  # REGULATOR + OPERATOR + ARBITER: those who do not
ALL_ROLES = 127
PAGE = 100

OK = "ok"
NOT_A_MEMBER = "not_a_member"
SUSPENDED = "member_suspended"
WRONG_ROLE = "wrong_role"
ROLES_MIX = "roles_do_not_mix"
EXISTS = "already_a_member"


class Member(Struct):
    """An account of the network; `roles` is a sum of the role bits."""

    roles: int
    suspended: bool
    since_ms: int


class MemberRegistered(Event):
    account: Address
    roles: int


class MemberSuspended(Event):
    account: Address
    by: Address
    cause: int


class MemberReinstated(Event):
    account: Address


class Registry(Contract):
    """The register of members. Subjects are accounts too; the chain holds no name of anybody."""

    members: Map[Address, Member]
    institutions: List[Address]

    def init(self, regulator: Address, operator: Address):
        """The regulator and the operator may be one account; no other role can be added to either."""
        if regulator == operator:
            self._add(regulator, REGULATOR | OPERATOR)
        else:
            self._add(regulator, REGULATOR)
            self._add(operator, OPERATOR)

    @external
    def register(self, account: Address, roles: int) -> str:
        """Operator only. Registers an institution or an arbiter: `ok`, `already_a_member` or `roles_do_not_mix`."""
        self._require_role(OPERATOR)
        require(0 < roles and roles <= ALL_ROLES, "malformed_roles")
        if account in self.members:
            return EXISTS
        if not self._may_mix(roles):
            return ROLES_MIX
        self._add(account, roles)
        self.institutions.append(account)
        return OK

    @external
    def enrol(self, subject: Address) -> str:
        """Institutions only, after checking the person off chain: makes the account a subject. `ok` or `already_a_member`."""
        self._require_role(INSTITUTION)
        if subject in self.members:
            return EXISTS
        self._add(subject, SUBJECT)
        return OK

    @external
    def suspend(self, account: Address, cause: int) -> str:
        """Regulator or operator. `cause` is a code of the consortium's rule book, 1..999. The regulator stays."""
        self._require_role(REGULATOR | OPERATOR)
        require(0 < cause and cause < 1000, "malformed_cause")
        member = self.members.get(account, None)
        if member is None:
            return NOT_A_MEMBER
        if member.roles & REGULATOR != 0:
            return WRONG_ROLE
        if member.suspended:
            return SUSPENDED
        self.members[account] = member.replace(suspended=True)
        emit(MemberSuspended(account=account, by=ctx.sender, cause=cause))
        return OK

    @external
    def reinstate(self, account: Address) -> str:
        """Regulator only."""
        self._require_role(REGULATOR)
        member = self.members.get(account, None)
        if member is None:
            return NOT_A_MEMBER
        self.members[account] = member.replace(suspended=False)
        emit(MemberReinstated(account=account))
        return OK

    @view
    def check(self, account: Address, roles: int) -> str:
        """`ok` if the account is active and has at least one of the roles, else why not."""
        return self._check(account, roles)

    @view
    def member(self, account: Address) -> Member | None:
        """What is registered about an account."""
        return self.members.get(account, None)

    @view
    def list_institutions(self, first: int, limit: int) -> tuple[Address, ...]:
        """Institutions and arbiters in order of registration, at most 100 from position `first`."""
        require(first >= 0 and limit > 0, "malformed_page")
        last = min(first + min(limit, PAGE), len(self.institutions))
        return [self.institutions[position] for position in range(first, last)]

    def _check(self, account: Address, roles: int) -> str:
        member = self.members.get(account, None)
        if member is None:
            return NOT_A_MEMBER
        if member.suspended:
            return SUSPENDED
        if member.roles & roles == 0:
            return WRONG_ROLE
        return OK

    def _require_role(self, roles: int):
        code = self._check(ctx.sender, roles)
        require(code == OK, code)

    def _may_mix(self, roles: int) -> bool:
        if roles & (SUBJECT | REGULATOR | OPERATOR) != 0:
            return False
        if roles & SUPERVISOR != 0 and roles & INSTITUTION != 0:
            return False
        return roles & AGENCY == 0 or roles == AGENCY

    def _add(self, account: Address, roles: int):
        self.members[account] = Member(roles=roles, suspended=False, since_ms=ctx.time_ms)
        emit(MemberRegistered(account=account, roles=roles))
