"""Ways out of a contract language, and ways to make nodes differ or fall, that real systems had."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time

import pytest

from contracts.language import check
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain, Result
from contracts.sources import available, load_source
from contracts.system import SYSTEM_ADDRESS

_GAS = 100_000_000  # the most a transaction may use
_SECONDS = 8.0  # far above what that much gas takes, far below what an unmetered operation would


def _source(body: str, *, members: str = "", above: str = "", returns: str = "int") -> str:
    lines = "\n".join("        " + line for line in body.split("\n"))
    return f"{above}\nclass Attack(Contract):\n    {members}\n    @external\n    def run(self) -> {returns}:\n{lines}\n"


def _run(body: str, *, members: str = "", above: str = "", returns: str = "int") -> Result:
    chain = LocalChain()
    address = chain.deploy("attack", _source(body, members=members, above=above, returns=returns))
    begun = time.process_time()
    result = chain.call(address, "run", gas_limit=_GAS)
    assert time.process_time() - begun < _SECONDS
    return result


@pytest.mark.parametrize(
    "body",
    [
        "return ().__class__.__base__.__subclasses__()",
        "return (1).__class__",
        "return 'x'.__class__.__mro__[1]",
        "return '{0.__class__}'.format(1)",
        "return '{0.a}'.format(ctx)",
        "return '{}'.format_map({})",
        "return '%s' % ().__class__",
        "return f'{().__class__}'",
        "return f'{ctx.__class__}'",
        "return f'{1:{2}}'",
        "return getattr((), '_' + '_class_' + '_')",
        "return vars()",
        "return globals()",
        "return locals()",
        "return dir()",
        "return super()",
        "return object()",
        "return type('X', (), {})",
        "return compile('1', '', 'eval')",
        "return eval('1')",
        "exec('x = 1')",
        "return open('/etc/passwd')",
        "return __import__('os').system('true')",
        "return __builtins__",
        "return breakpoint()",
        "return memoryview(b'')",
        "return [x for x in (1).__class__.__bases__]",
        "try:\n    pass\nexcept CallFailed as e:\n    return e.__traceback__",
        "try:\n    pass\nexcept CallFailed as e:\n    return e.args",
        "try:\n    pass\nexcept CallFailed as e:\n    return e.with_traceback(None)",
        "try:\n    pass\nexcept BaseException:\n    pass\nreturn 1",
        "try:\n    pass\nexcept:\n    pass\nreturn 1",
        "return (x for x in ()).gi_frame",
        "return self.run.__func__",
        "return self.run.__globals__",
        "return (lambda: 0).__code__",
        "return len.__self__",
        "return ctx.context",
        "return ctx.gas",
        "return ctx.machine",
        "ctx.gas = 10 ** 9\nreturn 1",
        "return h__x",
        "h__x = 1\nreturn h__x",
        "return self.h__x",
        "return m__run(1)",
        "return int.__new__(int)",
        "return int.real",
        "return str.format('x')",
        "return bytes.maketrans(b'', b'')",
        "import os\nreturn 1",
        "raise StopIteration",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "yield 1",
        "return [await x for x in ()]",
        "class X:\n    pass\nreturn 1",
        "def f():\n    pass\nreturn 1",
        "@external\ndef f():\n    pass\nreturn 1",
        "assert 1 == 2\nreturn 1",
        "global x\nx = 1\nreturn x",
        "self.leak = 1\nreturn 1",
        "LIMIT = 5\nreturn LIMIT",
        "a = ()\na.ｆormat = 1\nreturn 1",
        "return ().__ｃlass__",
    ],
)
def test_no_way_out_through_names_attributes_or_text(body: str) -> None:
    assert check(_source(body, above="LIMIT = 4"))


# Twelve small tuples that are two hundred million values when they are written out.
_BUSH = "a = ()\nfor n in range(12):\n    a = (a, a, a, a, a)\n"


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        ("a = 'a' * 10 ** 9\nreturn 1", [Status.LIMIT]),
        ("a = [0] * 10 ** 9\nreturn 1", [Status.LIMIT]),
        ("a = bytes(10 ** 9)\nreturn 1", [Status.LIMIT]),
        ("a = 2 ** 10 ** 8\nreturn 1", [Status.ARITHMETIC]),
        ("a = 1 << 10 ** 9\nreturn 1", [Status.ARITHMETIC]),
        ("a = int('9' * 10 ** 6)\nreturn 1", [Status.LIMIT]),
        ("a = (10).to_bytes(10 ** 9, 'big')\nreturn 1", [Status.LIMIT]),
        ("a = 'a'.zfill(10 ** 9)\nreturn 1", [Status.LIMIT]),
        ("a = list(range(10 ** 12))\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = sum(range(10 ** 12))\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = max(range(10 ** 12))\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = 'x' in range(10 ** 12)\nreturn 1", [Status.TYPE]),
        ("a = sorted(range(10 ** 12))\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = [1 for x in range(10 ** 12)]\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = [1 for x in range(10 ** 5) for y in range(10 ** 5)]\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = range(10 ** 100)\nreturn 1", [Status.ARITHMETIC]),
        ("a = len(range(-(2 ** 61), 2 ** 61, 1))\nreturn 1", [Status.OK, Status.ARITHMETIC]),
        ("for x in range(10 ** 12):\n    pass\nreturn 1", [Status.OUT_OF_GAS]),
        ("while True:\n    pass", [Status.OUT_OF_GAS]),
        ("a = 'x'\nwhile True:\n    a = a + a", [Status.LIMIT]),
        ("a = 'x'\nwhile True:\n    a += a", [Status.LIMIT]),
        ("a = [1]\nwhile True:\n    a += a", [Status.LIMIT]),
        ("a = [1]\nfor x in a:\n    a.append(x)\nreturn 1", [Status.LIMIT, Status.OUT_OF_GAS]),
        ("a = [1]\nb = [a.append(1) for x in a]\nreturn len(b)", [Status.OK]),
        ("a = {}\nfor n in range(10 ** 9):\n    a[n] = n\nreturn 1", [Status.LIMIT]),
        ("a = 3\nwhile True:\n    a = a * a", [Status.ARITHMETIC]),
        ("a = 3\nwhile True:\n    a = a + a", [Status.ARITHMETIC]),
        ("a = 3\nwhile True:\n    a = a - -a", [Status.ARITHMETIC]),
        ("a = 3\nwhile True:\n    a <<= 900", [Status.ARITHMETIC]),
        ("a = '€' * 200_000\nb = []\nwhile True:\n    b.append(a + 'x')", [Status.OUT_OF_GAS]),
        ("a = 'a,' * 100_000\nb = a.split(',')\nreturn len(b)", [Status.OK]),
        ("a = 'a,' * 500_000\nb = a.split(',')\nreturn len(b)", [Status.LIMIT]),
        ("a = 'ab' * 100_000\nb = a.replace('a', 'x' * 1_000)\nreturn len(b)", [Status.LIMIT]),
        ("a = ('x' * 1_000).join(['y'] * 100_000)\nreturn len(a)", [Status.LIMIT]),
        ("a = ()\nfor n in range(10 ** 5):\n    a = (a,)\nreturn 1", [Status.OK]),
        ("a = []\nfor n in range(10 ** 5):\n    a = [a]\nreturn 1 if a == [a] else 2", [Status.LIMIT]),
        ("a = ()\nfor n in range(40):\n    a = (a, a)\nreturn len(encode(a))", [Status.LIMIT]),
        (_BUSH + "return len(encode(a))", [Status.OUT_OF_GAS, Status.LIMIT]),
        (_BUSH + "b = {a: 1}\nreturn 1", [Status.OUT_OF_GAS, Status.LIMIT]),
        (_BUSH + "return 1 if a in [a] else 2", [Status.OUT_OF_GAS, Status.LIMIT]),
        ("a = ['x' * 10 ** 6] * 10 ** 5\nreturn len(encode(a))", [Status.LIMIT]),
        ("a = ['x' * 10 ** 6] * 10 ** 5\na.sort()\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = ['x' * 10 ** 6] * 10 ** 5\nb = 'y' * 10 ** 6 in a\nreturn 1", [Status.OUT_OF_GAS]),
        ("a = []\na.append(a)\nreturn len(encode(a))", [Status.LIMIT]),
        ("a = []\na.append(a)\nreturn 1 if a == a else 2", [Status.LIMIT]),
        ("a = {}\na['a'] = a\nreturn 1 if a == {} else 2", [Status.LIMIT]),
        ("while True:\n    a = sha256(bytes(10 ** 6))", [Status.OUT_OF_GAS]),
        ("while True:\n    a = keccak256(bytes(10 ** 6))", [Status.OUT_OF_GAS]),
        ("a = '%1000000000d'\nb = a % 1\nreturn 1", [Status.TYPE]),
        ("a = [[n, 1] for n in range(1_000)]\na.sort(reverse=True)\nreturn a[0][0]", [Status.OK]),
        pytest.param(
            "d = {(n * (2 ** 61 - 1), 1): n for n in range(16_000)}\nreturn 1",
            [Status.OUT_OF_GAS],
            marks=pytest.mark.slow,
        ),
        ("d = {n * (2 ** 61 - 1): n for n in range(4_000)}\nwhile True:\n    a = d[2 ** 61 - 1]", [Status.OUT_OF_GAS]),
    ],
)  # fmt: skip
def test_a_bomb_is_stopped_by_gas_or_a_limit_at_once(body: str, statuses: list[Status]) -> None:
    result = _run(body)
    assert result.status in statuses, (result.status, result.error)
    gc.collect()


@pytest.mark.slow
def test_memory_stays_bounded_at_the_highest_gas() -> None:
    """Whatever a transaction keeps alive, all its gas buys a bounded amount of memory."""
    script = """
import resource, sys
from contracts.runtime.testing import LocalChain
chain = LocalChain()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for position, body in enumerate(sys.stdin.read().split("----")):
    lines = chr(10).join("        " + line for line in body.strip().split(chr(10)))
    source = "class A(Contract):" + chr(10) + "    @external" + chr(10) + "    def run(self) -> int:" + chr(10) + lines
    address = chain.deploy(f"bomb{position}", source)
    chain.call(address, "run", gas_limit=100_000_000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    bodies = [
        "a = []\nwhile True:\n    a.append('x' * 1_000_000)",
        "a = []\nwhile True:\n    a.append('€' * 100_000)",
        "a = []\nb = []\nwhile True:\n    b = [b, [], [], [], [], [], [], []]",
        "b = 0\nwhile True:\n    b = (b, b, b)",
        "b = {}\nwhile True:\n    b = {1: b}",
        "a = []\nwhile True:\n    a.append([n + 2 ** 900 for n in range(10_000)])",
        "a = []\nwhile True:\n    a.append(('a,' * 10_000).split(','))",
        "a = []\nwhile True:\n    a.append(list(enumerate(range(1_000, 30_000))))",
    ]
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input="----".join(bodies), capture_output=True, text=True, timeout=200, check=True)
    assert int(done.stdout) < 900


def test_a_guard_is_no_assert_and_holds_under_optimisation() -> None:
    script = (
        "from contracts.runtime.testing import LocalChain\n"
        "from contracts.sources import load_source\n"
        "chain = LocalChain()\n"
        "bank = chain.deploy('bank', load_source('library/smallbank'))\n"
        "chain.call(bank, 'create_accounts', 0, 3, 1, 1)\n"
        "print(chain.call(bank, 'send_payment', 0, 1, 2).error)\n"
    )
    command = [sys.executable, "-OO", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "insufficient_funds\n"


def test_no_state_of_a_module_or_class_leaks_from_one_transaction_to_the_next() -> None:
    members = "seen: Value[int]"
    body = "cache = {}\ncache['n'] = cache.get('n', 0) + 1\nitems = [1]\nitems.append(2)\n"
    body += "return cache['n'] * 10 + len(items)"
    chain = LocalChain()
    address = chain.deploy("leak", _source(body, members=members))
    assert [chain.call(address, "run").value for _ in range(3)] == [12, 12, 12]
    constant = "x = TABLE\nx += (1,)\nreturn len(x) * 10 + len(TABLE)"
    address = chain.deploy("constant", _source(constant, above="TABLE = (1, 2)"))
    assert [chain.call(address, "run").value for _ in range(3)] == [32, 32, 32]


def test_stale_code_is_not_called_after_an_upgrade() -> None:
    chain = LocalChain()
    address = chain.deploy("box", _source("return 1"))
    caller = chain.deploy(
        "caller",
        "class Box(Interface):\n    @external\n    def run(self) -> int: ...\n"
        "class Caller(Contract):\n    @external\n    def ask(self, box: Address) -> int:\n"
        "        return Box(box).run()\n",
    )
    answers = []
    for number in (1, 2, 1, 3):
        chain.call(SYSTEM_ADDRESS, "upgrade", address, _source(f"return {number}"))
        answers.append((chain.call(address, "run").value, chain.call(caller, "ask", address).value))
    assert answers == [(1, 1), (2, 2), (1, 1), (3, 3)]


def test_mutual_recursion_between_contracts_ends() -> None:
    chain = LocalChain()
    source = (
        "class Other(Interface):\n    @external\n    def ping(self, other: Address) -> int: ...\n"
        "class Ping(Contract):\n    @external\n    def ping(self, other: Address) -> int:\n"
        "        return Other(other).ping(ctx.this) + 1\n"
    )
    a, b = chain.deploy("a", source), chain.deploy("b", source)
    result = chain.call(a, "ping", b)
    assert (result.status, result.error) == (Status.LIMIT, "call_depth")


def test_a_failed_call_leaves_no_part_of_nested_state() -> None:
    chain = LocalChain()
    source = """
class Node(Interface):
    @external
    def step(self, path: tuple[int, ...]) -> int: ...

class Tree(Contract):
    marks: Map[int, int]
    order: List[int]

    @external
    def step(self, path: tuple[int, ...]) -> int:
        here = path[0]
        self.marks[here] = self.marks.get(here, 0) + 1
        self.order.append(here)
        try:
            if len(path) > 1:
                Node(ctx.this).step(path[1:])
        except CallFailed:
            self.marks[here] += 100
        require(here >= 0, "negative")
        return 1

    @view
    def state(self) -> tuple[tuple[tuple[int, int], ...], int]:
        return (self.marks.scan(), len(self.order))
"""
    tree = chain.deploy("tree", source)
    assert chain.call(tree, "step", (1, 2, 3)).ok
    assert chain.read(tree, "state").value == (((1, 1), (2, 1), (3, 1)), 3)
    assert chain.call(tree, "step", (1, 2, -3)).ok  # the innermost fails: 3 leaves nothing, 2 is marked
    assert chain.read(tree, "state").value == (((1, 2), (2, 102), (3, 1)), 5)
    assert chain.call(tree, "step", (1, -2, 3)).ok  # the middle fails after the innermost succeeded
    assert chain.read(tree, "state").value == (((1, 103), (2, 102), (3, 1)), 6)
    assert chain.call(tree, "step", (-1, 2, 3)).status == Status.REVERTED
    assert chain.read(tree, "state").value == (((1, 103), (2, 102), (3, 1)), 6)


def test_outcomes_do_not_depend_on_the_process() -> None:
    """The same transactions under other hash seeds, recursion states and limits on integer text."""
    script = """
from chain.codec import pack, tagged_digest
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source
source = '''
class A(Contract):
    m: Map[str, int]
    @external
    def run(self, words: tuple[str, ...]) -> bytes:
        d = {}
        for word in words:
            d[word] = d.get(word, 0) + 1
            self.m[word] = len(d)
        d.pop(words[0])
        d[words[0]] = 7
        return sha256(encode(d.items(), sorted(d), str(7 ** 250), [k for k in d], self.m.scan()))
'''
chain = LocalChain()
a = chain.deploy("a", source)
token = chain.deploy("token", load_source("library/token"), "T", "T", 10)
results = [chain.call(a, "run", ("x", "yy", "z", "x", "w"))]
results += [chain.call(token, "transfer", a, amount) for amount in (3, 30)]
for result in results:
    done = result.outcome
    print(done.status, done.gas_used, done.result.hex(), done.error, sorted(done.writes.items()))
"""
    outputs = set()
    for seed, digits in (("0", "640"), ("1", "0"), ("12345", "4300")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONINTMAXSTRDIGITS": digits}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=environment
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1 and outputs.pop().startswith("0 ")


def test_deep_sources_are_refused_the_same_from_a_deep_stack() -> None:
    sources = [
        _source("return " + "-" * 150 + "1"),
        _source("return " + "1 + " * 150 + "1"),
        _source("a = 1\nreturn a" + "[0]" * 150),
        _source("return " + "(" * 20 + "1" + ")" * 20),
        _source("\n".join("    " * n + "if 1:" for n in range(9)) + "\n" + "    " * 9 + "return 1"),
    ]

    def at(depth: int) -> list[object]:
        return at(depth - 1) if depth else [check(source) for source in sources]

    assert at(0) == at(600)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["library/smallbank", "library/token"])
def test_a_damaged_source_is_refused_or_compiles_but_never_crashes(name: str) -> None:
    assert name in available()
    source = load_source(name)
    for position in range(0, len(source), 97):
        for damage in ("", "(", "\n", "self", "..", "=", "'", ":", "[0]"):
            check(source[:position] + damage + source[position + 3 :])
