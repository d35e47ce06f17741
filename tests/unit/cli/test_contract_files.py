"""`headrace contract check` and `contract access`: findings, keys in words, verdicts, reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chain.cli.main import main

ROOT = Path(__file__).resolve().parents[3] / "contracts"

POT = '''"""A pot."""


class Rule(Interface):
    @view
    def limit(self, who: Address) -> int: ...


class Pot(Contract):
    total: Value[int]
    counts: Map[Address, int]
    shares: Map[tuple[Address, int], int]
    log: List[int]
    rules: Map[str, Address]

    def init(self):
        self.total.set(0)

    @external
    def pay(self, amount: int):
        self.total.set(self.total.get() + amount)

    @external
    def note(self, amount: int):
        self.log.append(amount)

    @external
    def count(self, names: tuple[Address, ...]):
        for name in names:
            self.counts[name] += 1

    @external
    def share(self, kind: str):
        limit = Rule(self.rules[kind]).limit(ctx.sender)
        self.shares[(ctx.sender, limit)] = self.shares.get((ctx.sender, limit), 0) + 1

    @external
    def clear(self):
        for key, value in self.counts.scan():
            self.counts[key] = 0

    @external
    def ask(self, kind: str):
        Rule(Rule(self.rules[kind]).limit(ctx.sender)).limit(ctx.sender)

    @external
    def again(self):
        self._again()

    @view
    def whole(self) -> int:
        return self.total.get()

    def _again(self):
        self._again()
'''

RULE = '''"""A rule."""


class House(Contract):
    limits: Map[Address, int]
    asked: Map[Address, int]

    @external
    def limit(self, who: Address) -> int:
        self.asked[who] = self.asked.get(who, 0) + 1
        return self.limits[who]
'''

BAD = '"""Bad."""\nimport os\n\n\nclass Bad(Contract):\n    x: Value[float]\n'


@pytest.fixture
def pot(tmp_path: Path) -> Path:
    (tmp_path / "pot.py").write_text(POT)
    return tmp_path / "pot.py"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    assert main(["contract", *[str(argument) for argument in arguments]]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out if code == 0 or captured.out else captured.err


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, dict[str, Any]]:
    """Methods by name, of all contracts."""
    document = json.loads(run(capsys, "access", *arguments, "--json"))
    return {method["method"]: method for entry in document["contracts"] for method in entry["methods"]}


def test_keys_are_shown_as_they_stand_in_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "access", ROOT / "library" / "smallbank.py", "--method", "send_payment")
    lines = text.splitlines()
    assert lines[0].endswith("smallbank.py: SmallBank")
    assert lines[2] == "send_payment(source, destination, amount)  external"
    assert [line.split()[:3] for line in lines[3:5]] == [
        ["reads,", "writes", "checking[source]"],
        ["reads,", "writes", "checking[destination]"],
    ]
    assert lines[5] == "  => parallel by: source, destination"


def test_adds_commute(capsys: pytest.CaptureFixture[str]) -> None:
    methods = told(capsys, ROOT / "library" / "token.py")
    assert {(access["mode"], access["key"]) for access in methods["mint"]["accesses"]} == {
        ("reads", "owner"), ("adds", "total_supply"), ("adds", "balances[destination]"),
    }  # fmt: skip
    assert methods["mint"]["verdict"].endswith("adds to total_supply, balances[destination] commute")
    assert methods["transfer"]["verdict"] == "parallel by: sender; adds to balances[destination] commute"


def test_the_order_path_says_what_is_followed_where(capsys: pytest.CaptureFixture[str]) -> None:
    alone = told(capsys, ROOT / "credit" / "order.py", "--method", "deliver")["deliver"]
    assert alone["verdict"] == "parallel by: (user, order_id), (sender, delivery)"
    assert {call["followed"] for call in alone["calls"]} == {None}
    text = run(capsys, "access", ROOT / "credit" / "order.py", "--method", "deliver")
    assert "consent.get() -> Consent.use(...)" in text
    assert "followed at run time" in text
    whole = told(capsys, ROOT / "credit", "--method", "deliver")["deliver"]
    assert {Path(call["followed"]).name for call in whole["calls"]} == {
        "registry.py", "consent.py", "record.py", "settlement.py", "query_log.py",
    }  # fmt: skip
    keys = {access["key"]: access["mode"] for access in whole["accesses"]}
    assert keys["Consent.grants[subject, consent_id]"] == "reads_writes"
    assert keys["Record.items[subject, purchases[user, order_id].agency, ...]"] == "scans"
    assert keys["QueryLog.entries[subject, QueryLog.counts[subject]]"] == "writes"
    assert whole["verdict"] == "parallel by: (user, order_id), (sender, delivery), (subject, consent_id), subject"


@pytest.mark.parametrize(
    ("method", "verdict"),
    [
        ("init", "runs once, when the contract is deployed"),
        ("pay", "one at a time: reads and writes total (line 21)"),
        ("note", "one at a time: reads and writes len(log) (line 25)"),
        ("count", "parallel by: each of names"),
        ("share", "parallel by: sender"),
        ("clear", "one at a time: reads and writes counts[?] (line 40)"),
        ("whole", "parallel: it only reads"),
    ],
)
def test_verdicts(capsys: pytest.CaptureFixture[str], pot: Path, method: str, verdict: str) -> None:
    assert told(capsys, pot)[method]["verdict"] == verdict


def test_every_widening_comes_with_its_reason(capsys: pytest.CaptureFixture[str], pot: Path) -> None:
    methods = told(capsys, pot)
    (share, *_) = methods["share"]["widenings"]
    assert (share["line"], share["subject"]) == (35, "shares")
    assert share["reason"] == "key depends on the result of Rule.limit() (line 34)"
    (clear,) = methods["clear"]["widenings"]
    assert clear["reason"] == "key depends on what a scan of counts finds (line 39)"
    (ask,) = methods["ask"]["widenings"]
    assert ask["reason"] == "target of the call is the result of Rule.limit()"
    assert "may touch anything" in methods["ask"]["verdict"]
    assert "helpers call each other" in methods["again"]["verdict"]
    text = run(capsys, "access", pot, "--method", "share")
    assert f"widened        {pot}:35: shares: key depends on the result of Rule.limit() (line 34)" in text
    assert "shares[sender, ?]" in text
    assert "for each item of names" in run(capsys, "access", pot, "--method", "count")


def test_calls_are_followed_into_the_only_file_that_fits(
    capsys: pytest.CaptureFixture[str], pot: Path, tmp_path: Path
) -> None:
    (tmp_path / "house.py").write_text(RULE)
    share = told(capsys, tmp_path, "--method", "share")["share"]
    assert share["calls"][0]["followed"] == str(tmp_path / "house.py")
    assert ("reads_writes", "House.asked[sender]") in {(item["mode"], item["key"]) for item in share["accesses"]}
    (tmp_path / "other.py").write_text(RULE.replace("House", "Other"))
    assert told(capsys, tmp_path, "--method", "share")["share"]["calls"][0]["followed"] is None
    (tmp_path / "other.py").write_text(RULE.replace("House", "Rule"))
    assert told(capsys, tmp_path, "--method", "share")["share"]["calls"][0]["followed"] == str(tmp_path / "other.py")


@pytest.mark.parametrize("command", ["access", "check"])
def test_bad_sources_get_all_their_findings(
    capsys: pytest.CaptureFixture[str], pot: Path, tmp_path: Path, command: str
) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(BAD)
    lines = run(capsys, command, bad, pot, code=1).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [[f"{bad}:2:1", "import"], [f"{bad}:6:14", "type"]]
    document = json.loads(run(capsys, command, bad, "--json", code=1))
    assert [(item["line"], item["code"]) for item in document["findings"]] == [(2, "import"), (6, "type")]


def test_check_knows_the_rule_sets(capsys: pytest.CaptureFixture[str], pot: Path) -> None:
    assert run(capsys, "check", pot) == f"{pot}: fine\n"
    token = ROOT / "library" / "token.py"
    assert "rule set 2" in run(capsys, "check", token, "--rule-set", "1", code=1)
    assert "must be one of 1, 2" in run(capsys, "check", pot, "--rule-set", "9", code=1)


def test_wrong_paths_and_methods_are_named(capsys: pytest.CaptureFixture[str], pot: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    assert "no such file or folder" in run(capsys, "access", tmp_path / "none.py", code=1)
    assert "has no contract files" in run(capsys, "access", tmp_path / "empty", code=1)
    assert "cannot be read" in run(capsys, "access", tmp_path / "binary.py", code=1)
    error = run(capsys, "access", pot, "--method", "paid", code=1)
    assert "method is 'paid', must be one of again, ask, clear, count, init, note, pay, share, whole" in error
