"""Contracts made to collide: everything a transaction can do to state, and every shape of call."""

from __future__ import annotations

from typing import Final

_HEAD: Final = '''"""Everything a transaction can do to state, and calls of every shape."""

STEP = 3
SIZE = 100
SYSTEM = b"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01"


class Peer(Interface):
    @external
    def poke(self, key: int, value: int, fail: bool) -> int: ...
    @external
    def hop(self, path: tuple[Address, ...], key: int, value: int, fail: bool) -> int: ...
    @external
    def spiral(self, other: Address, depth: int, caught: bool) -> int: ...
    @external
    def run(self, steps: tuple[tuple[int, int, int], ...]) -> int: ...
    @view
    def look(self, key: int) -> int: ...


class Sly(Interface):
    @view
    def bump(self, key: int, amount: int) -> int: ...


class System(Interface):
    @view
    def info(self, address: Address) -> tuple[str, bytes, Address, int, int, int, int] | None: ...
    @view
    def resolve(self, name: str) -> Address | None: ...


class Cell(Struct):
    group: int
    value: int


class Moved(Event):
    source: Address
    target: Address
    amount: int


class Noted(Event):
    what: int
    value: int


class Arena(Contract):
    total: Value[int]
    balances: Map[Address, int]
    counters: Map[int, int]
    flat: Map[int, int]
    cells: Map[tuple[int, int], Cell]
    peers: Map[int, Address]
    log: List[int]
    sums: Map[int, int]
    pot: Value[int]

    def init(self, start: int, peers: tuple[Address, ...]):
        self.total.set(start)
        for number, peer in enumerate(peers):
            self.peers[number] = peer

    # One key, two keys

    @external
    def count(self, amount: int) -> int:
        """A hot counter, as a read and a write."""
        self.total.set(self.total.get() + amount)
        return self.total.get()

    @external
    def bump(self, key: int, amount: int) -> int:
        self.counters[key] = self.counters.get(key, 0) + amount
        return self.counters[key]

    @external
    def blind(self, key: int, value: int):
        """A write without a read."""
        self.counters[key] = value

    @external
    def fund(self, amount: int):
        self.balances[ctx.sender] = self.balances.get(ctx.sender, 0) + amount

    @external
    def send(self, target: Address, amount: int):
        mine = self.balances[ctx.sender]
        require(mine >= amount, "insufficient")
        self.balances[ctx.sender] = mine - amount
        self.balances[target] = self.balances.get(target, 0) + amount
        emit(Moved(source=ctx.sender, target=target, amount=amount))

    @external
    def shift(self, source: int, target: int):
        """Copy one key over another: a chain from transaction to transaction."""
        self.flat[target] = self.flat.get(source, 0) + 1

    @external
    def make(self, key: int, value: int):
        require(key not in self.flat, "exists")
        self.flat[key] = value

    @external
    def drop(self, key: int) -> bool:
        if key in self.flat:
            del self.flat[key]
            return True
        return False

    @external
    def erase(self, key: int):
        """Deletes without looking."""
        del self.flat[key]

    @external
    def need(self, key: int) -> int:
        """Fails with missing_key until someone makes it."""
        return self.flat[key]

    @external
    def ratio(self, key: int) -> int:
        """Divides by what may be zero, or add to what may be None."""
        return self.total.get() // self.counters.get(key)

    @external
    def grow(self, key: int) -> int:
        """Squares until the integer leaves its range."""
        value = self.counters.get(key, 3)
        self.counters[key] = value * value + 2
        return 1

    # Many keys

    @external
    def put(self, group: int, index: int, value: int):
        self.cells[(group, index)] = Cell(group=group, value=value)

    @external
    def take(self, group: int, index: int) -> int:
        cell = self.cells[(group, index)]
        del self.cells[(group, index)]
        return cell.value

    @external
    def sum_group(self, group: int, into: int) -> int:
        amount = 0
        for key, cell in self.cells.scan(group):
            amount = amount + cell.value % SIZE + STEP
        self.cells[(into, 99)] = Cell(group=into, value=amount)
        return amount

    @external
    def sum_all(self, key: int) -> int:
        amount = 0
        for index, value in self.flat.scan():
            amount = amount + value % SIZE + index
        self.counters[key] = amount
        return len(self.flat.scan())

    @external
    def clear_group(self, group: int) -> int:
        rows = self.cells.scan(group)
        for key, cell in rows:
            del self.cells[key]
        return len(rows)

    @external
    def follow(self, group: int, index: int) -> int:
        """Where to write depends on what is there."""
        cell = self.cells.get((group, index), Cell(group=group, value=0))
        target = cell.value % 5
        self.cells[(cell.group, target)] = Cell(group=group, value=cell.value + 1)
        return target

    @external
    def append(self, value: int) -> int:
        self.log.append(value)
        return len(self.log)

    @external
    def last(self, key: int) -> int:
        self.counters[key] = self.log[-1] + len(self.log)
        return self.log[-1]

    @external
    def rewrite(self, index: int, value: int):
        self.log[index % (len(self.log) + 1)] = value

    @external
    def burn(self, rounds: int) -> int:
        self.cells[(1, 1)] = Cell(group=1, value=rounds)
        done = 0
        while done < rounds:
            done = done + 1
        return done

    @external
    def work(self, key: int, rounds: int) -> int:
        """How long it takes depends on state; what it wrote before it fails must go."""
        self.flat[key] = rounds
        done = 0
        while done < self.counters.get(key, 0) % 50 + rounds:
            done = done + 1
        self.counters[key] = done
        return done

    @external
    def deep(self, key: int, depth: int) -> int:
        self.counters[key] = depth
        return self._sink(depth)

    def _sink(self, depth):
        if depth <= 0:
            return 0
        return self._sink(depth - 1) + 1

    @view
    def look(self, key: int) -> int:
        return self.counters.get(key, 0) + self.total.get()

    # Calls

    @external
    def poke(self, key: int, value: int, fail: bool) -> int:
        self.cells[(7, key)] = Cell(group=7, value=value)
        self.log.append(value)
        emit(Noted(what=1, value=value))
        require(not fail, "poked_to_fail")
        return value + 1

    @external
    def relay(self, other: Address, key: int, value: int, fail: bool) -> int:
        self.cells[(8, key)] = Cell(group=8, value=value)
        return Peer(other).poke(key, value, fail)

    @external
    def relay_caught(self, other: Address, key: int, value: int, fail: bool) -> str:
        self.cells[(8, key)] = Cell(group=8, value=value)
        reason = "fine"
        try:
            Peer(other).poke(key, value, fail)
        except CallFailed as failure:
            reason = failure.reason
            emit(Noted(what=2, value=failure.status))
            self.cells[(9, key)] = Cell(group=9, value=value)
        return reason

    @external
    def via(self, number: int, key: int, value: int, fail: bool) -> int:
        """The target is read from state."""
        return Peer(self.peers[number]).poke(key, value, fail)

    @external
    def route(self, number: int, other: Address):
        self.peers[number] = other

    @external
    def star(self, others: tuple[Address, ...], key: int, value: int, fail: bool) -> int:
        failures = 0
        for number, other in enumerate(others):
            try:
                Peer(other).poke(key + number, value, fail and number % 2 == 0)
            except CallFailed as failure:
                failures = failures + 1
        self.counters[key] = failures
        return failures

    @external
    def hop(self, path: tuple[Address, ...], key: int, value: int, fail: bool) -> int:
        """Along a path that may lead back here: chains, rings, re-entrance."""
        before = self.counters.get(key, 0)
        self.counters[key] = before + value
        if len(path) == 0:
            require(not fail, "end_of_path")
            return before
        result = Peer(path[0]).hop(path[1:], key, value, fail)
        self.counters[key] = self.counters[key] + result % SIZE
        return result

    @external
    def spiral(self, other: Address, depth: int, caught: bool) -> int:
        """Two contracts call each other down to the limit."""
        self.flat[depth] = depth
        if depth <= 0:
            return 0
        if not caught:
            return Peer(other).spiral(ctx.this, depth - 1, caught) + 1
        try:
            return Peer(other).spiral(ctx.this, depth - 1, caught) + 1
        except CallFailed as failure:
            self.counters[depth] = failure.status
            return 0

    @external
    def ask(self, other: Address, key: int) -> int:
        self.flat[key] = Peer(other).look(key)
        return self.flat[key]

    @external
    def ask_system(self, other: Address, name: str, key: int) -> int:
        """What another contract's record says, and who has a name."""
        found = System(SYSTEM).info(other)
        named = System(SYSTEM).resolve(name)
        self.flat[key] = 0 if named is None else 1
        if found is None:
            return -1
        return found[3] * SIZE + found[4]

    @external
    def write_by_view(self, other: Address, key: int) -> int:
        """What the caller takes for a view writes."""
        self.flat[key] = 1
        return Sly(other).bump(key, 1)

    # A small program: (operation, a, b) one after the other; what a call is to run follows it

    @external
    def run(self, steps: tuple[tuple[int, int, int], ...]) -> int:
        at = 0
        value = 0
        while at < len(steps):
            code, a, b = steps[at]
            at = at + 1
            if code == 0:
                self.counters[a] = b
            elif code == 1:
                self.counters[a] = self.counters.get(a, 0) + b
            elif code == 2:
                self.flat[a] = self.flat.get(b, value)
            elif code == 3:
                del self.flat[a]
            elif code == 4:
                value = value + self.flat[a]
            elif code == 5:
                for index, found in self.flat.scan():
                    value = value + found % SIZE
                self.counters[a] = value
            elif code == 6:
                for key, cell in self.cells.scan(a):
                    value = value + cell.value % SIZE
            elif code == 7:
                self.log.append(value)
            elif code == 8:
                emit(Noted(what=a, value=value))
            elif code == 9:
                require(self.counters.get(a, 0) % 3 != b % 3, "not_now")
            elif code == 10:
                value = value + Peer(self.peers[a]).run(steps[at:at + b])
                at = at + b
            elif code == 11:
                try:
                    value = value + Peer(self.peers[a]).run(steps[at:at + b])
                except CallFailed as failure:
                    value = value + failure.status
                at = at + b
            elif code == 12:
                self.cells[(a, b)] = Cell(group=a, value=value)
            elif code == 13:
                del self.cells[(a, b)]
            elif code == 14:
                value = self.counters.get(a, 0) % SIZE
'''

_PROGRAM_OF_ADDS: Final = '''            elif code == 15:
                self.sums.add(a, b)
            elif code == 16:
                self.sums.add(a, b, minimum=0, maximum=40)
            elif code == 17:
                value = value + self.sums.get(a, 0) % SIZE
            elif code == 18:
                self.pot.add(b, minimum=-20, maximum=20)
            elif code == 19:
                self.sums[a] = b
            elif code == 20:
                del self.sums[a]
            elif code == 21:
                for key, found in self.sums.scan():
                    value = value + found % SIZE
'''

_TAIL: Final = """        return value
"""

_ADDS: Final = '''
    # Adds

    @external
    def add(self, key: int, amount: int):
        self.sums.add(key, amount)

    @external
    def add_within(self, key: int, amount: int, low: int, high: int):
        """Succeeds or fails with the order."""
        self.flat[key] = amount
        self.sums.add(key, amount, minimum=low, maximum=high)

    @external
    def add_pot(self, amount: int):
        self.pot.add(amount, minimum=0)

    @external
    def add_twice(self, key: int, first: int, second: int, low: int, high: int):
        self.sums.add(key, first, minimum=low)
        self.sums.add(key, second, maximum=high)

    @external
    def add_read(self, key: int, amount: int) -> int:
        self.sums.add(key, amount)
        return self.sums.get(key, 0)

    @external
    def add_after_read(self, key: int, amount: int) -> int:
        before = self.sums.get(key, 0)
        self.sums.add(key, amount, minimum=0)
        return before

    @external
    def add_over_set(self, key: int, amount: int):
        self.sums[key] = 5
        self.sums.add(key, amount, minimum=0, maximum=30)

    @external
    def set_over_add(self, key: int, amount: int):
        self.sums.add(key, amount, minimum=0, maximum=30)
        self.sums[key] = 7

    @external
    def delete_over_add(self, key: int, amount: int):
        self.sums.add(key, amount, minimum=-10)
        del self.sums[key]

    @external
    def sum_set(self, key: int, value: int):
        self.sums[key] = value

    @external
    def sum_delete(self, key: int):
        del self.sums[key]

    @external
    def sum_read(self, key: int, into: int) -> int:
        self.counters[into] = self.sums.get(key, 0)
        return self.sums.get(key, -1)

    @external
    def sum_has(self, key: int, into: int) -> bool:
        self.flat[into] = 1 if key in self.sums else 0
        return key in self.sums

    @external
    def sum_scan(self, into: int) -> int:
        value = 0
        for key, found in self.sums.scan():
            value = value + found % SIZE
        self.counters[into] = value
        return value

    @external
    def add_scan(self, key: int, amount: int) -> int:
        self.sums.add(key, amount)
        return len(self.sums.scan())

    @external
    def add_fail(self, key: int, amount: int, fail: bool) -> int:
        """For callers that catch it: the add goes, what it observed stays."""
        self.sums.add(key, amount, minimum=0, maximum=25)
        require(not fail, "added_to_fail")
        return 1

    @external
    def add_caught(self, other: Address, key: int, amount: int, fail: bool) -> int:
        done = 0
        self.sums.add(key, 1)
        try:
            done = Adder(other).add_fail(key, amount, fail)
        except CallFailed as failure:
            done = failure.status
        self.counters[key] = done
        return done

    @external
    def add_self_caught(self, key: int, amount: int, fail: bool) -> int:
        """The callee is this very contract: its adds come on top of the caller's and are taken back from there."""
        done = 0
        self.sums.add(key, amount, minimum=-30)
        try:
            done = Adder(ctx.this).add_fail(key, amount, fail)
        except CallFailed as failure:
            done = failure.status
        return done

    @external
    def add_huge(self, key: int, negative: bool):
        """Close to the ends of the stored range."""
        if negative:
            self.sums.add(key, -(1 << 254))
        else:
            self.sums.add(key, 1 << 255)
'''

_ADDER: Final = """class Adder(Interface):
    @external
    def add_fail(self, key: int, amount: int, fail: bool) -> int: ...


"""


def arena_source(rule_set: int) -> str:
    """The contract; with adds from rule set 2 on."""
    head = _HEAD
    if rule_set < 2:
        return head + _TAIL
    return head.replace("class Cell(Struct)", _ADDER + "class Cell(Struct)", 1) + _PROGRAM_OF_ADDS + _TAIL + _ADDS


def upgraded(source: str) -> str:
    """Another version of the same contract: other constants, another answer, one method less."""
    return (
        source.replace("STEP = 3", "STEP = 11")
        .replace("return value + 1\n", "return value + 1000\n")
        .replace("def write_by_view", "def write_by_view_again")
    )
