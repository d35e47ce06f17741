"""SmallBank, with the transactions of BenchBase. Accounts are numbers and have no owners: it is a benchmark."""

OVERDRAFT_PENALTY = 1


class Balance(Struct):
    savings: int
    checking: int


class SmallBank(Contract):
    """Every customer has a savings and a checking account."""

    savings: Map[int, int]
    checking: Map[int, int]

    @external
    def create_account(self, customer: int, savings: int, checking: int):
        """Open both accounts of a customer, or set them anew."""
        self.savings[customer] = savings
        self.checking[customer] = checking

    @external
    def create_accounts(self, first: int, count: int, savings: int, checking: int):
        """Open the accounts of the customers first, first + 1, ..., all with the same balances."""
        for customer in range(first, first + count):
            self.savings[customer] = savings
            self.checking[customer] = checking

    @view
    def balance(self, customer: int) -> Balance:
        """Both balances of a customer."""
        return Balance(savings=self.savings[customer], checking=self.checking[customer])

    @external
    def deposit_checking(self, customer: int, amount: int):
        """Add to a checking account."""
        require(amount >= 0, "negative_amount")
        self.checking[customer] += amount

    @external
    def transact_savings(self, customer: int, amount: int):
        """Add to a savings account, or take from it if the amount is negative."""
        balance = self.savings[customer] + amount
        require(balance >= 0, "insufficient_funds")
        self.savings[customer] = balance

    @external
    def amalgamate(self, source: int, destination: int):
        """Move all that the source has into the destination's checking account."""
        total = self.savings[source] + self.checking[source]
        self.savings[source] = 0
        self.checking[source] = 0
        self.checking[destination] += total

    @external
    def write_check(self, customer: int, amount: int):
        """Take from checking; with a penalty if the customer's funds do not cover it."""
        checking = self.checking[customer]
        if self.savings[customer] + checking < amount:
            self.checking[customer] = checking - amount - OVERDRAFT_PENALTY
        else:
            self.checking[customer] = checking - amount

    @external
    def send_payment(self, source: int, destination: int, amount: int):
        """Move an amount from one checking account to another."""
        balance = self.checking[source]
        require(balance >= amount, "insufficient_funds")
        self.checking[source] = balance - amount
        self.checking[destination] += amount
