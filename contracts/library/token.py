"""A fungible token: balances, allowances, minting by its owner."""


class Transferred(Event):
    """Minting comes from the zero address."""

    source: Address
    destination: Address
    amount: int


class Approved(Event):
    owner: Address
    spender: Address
    amount: int


class OwnerChanged(Event):
    owner: Address


NOBODY = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"


class Token(Contract):
    """Amounts are whole units, never negative; the sum of all balances is the total supply."""

    name: Value[str]
    symbol: Value[str]
    owner: Value[Address]
    total_supply: Value[int]
    balances: Map[Address, int]
    allowances: Map[tuple[Address, Address], int]

    def init(self, name: str, symbol: str, supply: int):
        """The deployer owns the token and holds the whole supply."""
        require(supply >= 0, "negative_amount")
        self.name.set(name)
        self.symbol.set(symbol)
        self.owner.set(ctx.sender)
        self._mint(ctx.sender, supply)

    @external
    def transfer(self, destination: Address, amount: int):
        """Send from the caller's balance."""
        self._move(ctx.sender, destination, amount)

    @external
    def approve(self, spender: Address, amount: int):
        """Let someone take up to this much from the caller's balance; replaces what was approved before."""
        require(amount >= 0, "negative_amount")
        self.allowances[(ctx.sender, spender)] = amount
        emit(Approved(owner=ctx.sender, spender=spender, amount=amount))

    @external
    def transfer_from(self, source: Address, destination: Address, amount: int):
        """Send from someone's balance what they approved the caller to take."""
        allowed = self.allowances.get((source, ctx.sender), 0)
        require(allowed >= amount, "insufficient_allowance")
        self.allowances[(source, ctx.sender)] = allowed - amount
        self._move(source, destination, amount)

    @external
    def mint(self, destination: Address, amount: int):
        """The owner makes new units."""
        require(ctx.sender == self.owner.get(), "not_the_owner")
        require(amount >= 0, "negative_amount")
        self._mint(destination, amount)

    @external
    def set_owner(self, owner: Address):
        """The owner hands the right to mint over."""
        require(ctx.sender == self.owner.get(), "not_the_owner")
        self.owner.set(owner)
        emit(OwnerChanged(owner=owner))

    @view
    def balance_of(self, account: Address) -> int:
        return self.balances.get(account, 0)

    @view
    def allowance(self, owner: Address, spender: Address) -> int:
        return self.allowances.get((owner, spender), 0)

    @view
    def supply(self) -> int:
        return self.total_supply.get()

    @view
    def describe(self) -> tuple[str, str, Address]:
        """Name, symbol, owner."""
        return (self.name.get(), self.symbol.get(), self.owner.get())

    def _mint(self, destination, amount):
        self.total_supply.add(amount)
        self.balances.add(destination, amount)
        emit(Transferred(source=NOBODY, destination=destination, amount=amount))

    def _move(self, source, destination, amount):
        require(amount >= 0, "negative_amount")
        balance = self.balances.get(source, 0)
        require(balance >= amount, "insufficient_funds")
        self.balances[source] = balance - amount
        self.balances.add(destination, amount)  # not read: payments to one account do not wait for each other
        emit(Transferred(source=source, destination=destination, amount=amount))
