"""Plans of bench cluster: what is read, how runs share settings, and what is refused, with what would be right."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.command import PLANS
from bench.cluster.plan import ClusterPlan, Fault, PlanFile, Sweep, joined, load_plan, parse_plan, setting_of
from chain.errors import ConfigError


def parsed(text: str, **options: Any) -> PlanFile:
    return parse_plan(tomllib.loads(text), name="plan", **options)


def test_every_setting_is_read() -> None:
    [run] = parsed(
        """
        question = "what"
        workload = "smallbank"
        nodes = 5
        executors = 2
        rate = 250.5
        seconds = 7
        warmup_s = 1.5
        repeats = 3
        seed = 9
        load_processes = 2
        link_delay_ms = 20
        parameters.window = 4
        node.consensus.block_interval_ms = 100
        node."crypto.kernel" = "never"
        ablation.execution = "serial"
        [[faults]]
        kind = "kill"
        node = 2
        at_s = 3
        seconds = 1
        """
    ).runs
    assert run.name == "plan"
    assert (run.workload, run.nodes, run.executors, run.rate, run.seconds) == ("smallbank", 5, 2, 250.5, 7)
    assert (run.warmup_s, run.repeats, run.seed, run.load_processes, run.link_delay_ms) == (1.5, 3, 9, 2, 20)
    assert run.chain_parameters().window == 4
    assert run.overrides() == {
        "executor.mode": "serial", "consensus.block_interval_ms": 100, "crypto.kernel": "never"
    }  # fmt: skip
    assert run.faults == (Fault(kind="kill", node=2, at_s=3, seconds=1),)


def test_runs_share_defaults_and_join_tables_key_by_key() -> None:
    plan = parsed(
        """
        name = "both"
        rate = 100
        parameters.window = 4
        [[run]]
        name = "one"
        [[run]]
        rate = 200
        parameters.block_transactions_max = 10
        """
    )
    one, two = plan.runs
    assert (plan.name, one.name, two.name) == ("both", "one", "both-2")
    assert (one.rate, two.rate) == (100, 200)
    assert one.parameters == {"window": 4}
    assert two.parameters == {"window": 4, "block_transactions_max": 10}


def test_the_command_line_has_the_last_word() -> None:
    text = "sweep = [100, 200]\nsoak_seconds = 5\n[[run]]\nname = 'a'\nparameters.window = 2\n[[run]]\nname = 'b'"
    [run] = parsed(text, changes={"rate": 50, "parameters": {"window": 3}}, only=["a"]).runs
    assert (run.name, run.sweep, run.soak_seconds, run.rate) == ("a", None, 0, 50)
    assert run.parameters == {"window": 3}


def test_a_pipeline_that_is_off_has_a_window_of_one() -> None:
    [run] = parsed('ablation.pipeline = "off"').runs
    assert run.chain_parameters().window == 1
    assert run.overrides() == {"ablation.pipeline": "off"}


def test_commits_that_are_not_durable_are_asked_for_as_unsafe() -> None:
    [run] = parsed('ablation.fsync = "off"').runs
    assert run.overrides() == {"ablation.fsync": False, "ablation.unsafe": True}


def test_sweeps_are_a_list_or_a_rule() -> None:
    assert parsed("sweep = [10, 20]").runs[0].sweep == Sweep(rates=(10.0, 20.0))
    assert parsed("sweep = { start = 10, factor = 2 }").runs[0].sweep == Sweep(start=10, factor=2)


def test_links_may_have_delays_of_their_own() -> None:
    [run] = parsed('link_delay_ms = { others = 5, "1-2" = 40, "4-3" = 0 }').runs
    assert (run.link_delay_ms, run.link_delays) == (5, {(1, 2): 40, (3, 4): 0})


def test_a_number_of_transactions_takes_the_place_of_seconds() -> None:
    [run] = parsed("transactions = 6000\nrate = 100\nwarmup_s = 10").runs
    assert run.measured_s == 50


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("rates = 5", "unknown key `rates`; did you mean `rate`? known: name, question, workload"),
        ("warmup = 5", "unknown key `warmup`; did you mean `warmup_s`? known: name, question"),
        ("zebra = 5", "unknown key `zebra`; known: name, question"),
        ("runs = 5", "unknown key `runs`; did you mean `run`?"),
        ("window = 5", "unknown key `window`; did you mean `parameters.window`?"),
        ("block_interval_ms = 5", "unknown key `block_interval_ms`; did you mean `node.consensus.block_interval_ms`?"),
        ('pipeline = "off"', "unknown key `pipeline`; did you mean `ablation.pipeline`?"),
        ('[[run]]\nname = "a"\n[[run]]\nname = "b"\nwarmup = 0', "run 'b': unknown key `warmup`; did you mean"),
        ("rate = 0", "rate is 0, must be a number, 0.1..1e+06 transactions a second"),
        ("rate = nan", "rate is nan, must be a number"),
        ('rate = "fast"', "rate is 'fast', must be a number"),
        ("rate = true", "rate is True, must be a number"),
        ("nodes = 4.5", "nodes is 4.5, must be a whole number, 1..32 nodes"),
        ("nodes = 3", "nodes is 3, must be 1 (no consensus) or at least 4"),
        ('workload = "dance"', "workload is 'dance', must be one of send_payment"),
        ("workload = 1", "workload is 1, must be text"),
        ("sweep = [200, 100]", "sweep is [200, 100], must be rising rates"),
        ("sweep = []", "sweep is [], must be rising rates"),
        ("sweep = 5", "sweep is 5, must be a list of rates, or a table with start, factor"),
        ("sweep = { begin = 1 }", "unknown key `sweep.begin`; known: start, factor, highest, refine"),
        ("sweep = { factor = 1 }", "sweep.factor is 1, must be a number, 1.01..10 times the rate before"),
        ("sweep = [1]\ntransactions = 9", "sweep goes with `seconds` in an open loop"),
        ("soak_seconds = 5", "soak_seconds needs a sweep"),
        ("transactions = 10\nrate = 100", "transactions is 10, must be at least 1100"),
        ("link_delay_ms = -1", "link_delay_ms is -1, must be a whole number, 0..10000 milliseconds"),
        ('link_delay_ms = { "1-9" = 5 }', "link_delay_ms is '1-9', must be two different nodes of 1..4"),
        ('link_delay_ms = { "1-1" = 5 }', "link_delay_ms is '1-1', must be two different nodes"),
        ('link_delay_ms = { "a-b" = 5 }', "link_delay_ms.a-b is 5, must be for two nodes"),
        ("parameters.windows = 1", "unknown key `parameters.windows`; did you mean `parameters.window`? known: "),
        ('parameters.window = "x"', "parameters.window is 'x', must be a whole number"),
        ('ablation.pipe = "off"', "unknown key `ablation.pipe`; did you mean `ablation.pipeline`? known: pipeline"),
        ('ablation.pipeline = "no"', "ablation.pipeline is 'no', must be one of on, off"),
        ("node = 3", "node is 3, must be a table"),
        ("faults = 3", "faults is 3, must be tables"),
        ('[[faults]]\nkind = "melt"\nat_s = 1', "faults[1].kind is 'melt', must be one of kill, stop, freeze"),
        ('[[faults]]\nkind = "kill"', "faults[1].at_s is None, must be a number"),
        ('[[faults]]\nkind = "kill"\nat_s = 1\nnode = 9', "faults.node is 9, must be 1..4 or \"leader\""),
        ('[[faults]]\nkind = "kill"\nat_s = 1\nhow = 9', "unknown key `faults[1].how`; known: kind, node"),
        ("run = 1", "run is 1, must be tables"),
        ('[[run]]\nname = "a"\n[[run]]\nname = "a"', "run.name is ['a', 'a'], must be different"),
        ('[[run]]\nname = "a"\n[[run]]\nname = "b"\nrate = 0', "run 'b': rate is 0, must be a number"),
    ],
)
def test_what_is_wrong_is_refused_with_what_would_be_right(text: str, right: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(text)
    assert right in str(error.value)


def test_a_key_of_the_whole_file_is_not_blamed_on_a_run() -> None:
    with pytest.raises(ConfigError, match=r"^unknown key `warmup`; did you mean `warmup_s`\?"):
        parsed('warmup = 3\n[[run]]\nname = "a"\n[[run]]\nname = "b"')
    with pytest.raises(ConfigError, match=r"^unknown key `second`; did you mean `seconds`\?"):
        parsed('[[run]]\nname = "a"\n[[run]]\nname = "b"', changes={"second": 3})


def test_a_run_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="--run is 'c', must be one of a"):
        parsed('[[run]]\nname = "a"', only=["c"])


def test_a_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("rate = ", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: not TOML"):
        load_plan(path)
    path.write_text("rate = -1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: rate is -1"):
        load_plan(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path / "none.toml")


def test_settings_of_the_command_line_are_toml_with_plain_words() -> None:
    assert setting_of("node.consensus.block_interval_ms=100") == {"node": {"consensus": {"block_interval_ms": 100}}}
    assert setting_of("ablation.pipeline=off") == {"ablation": {"pipeline": "off"}}
    for wrong in ("window", "=3", "a b=3"):
        with pytest.raises(ConfigError, match="--set is"):
            setting_of(wrong)


def test_a_rate_takes_the_place_of_a_sweep_and_not_of_its_own_tables() -> None:
    both = joined({"sweep": [1], "node": {"a": {"b": 1}}}, {"rate": 5, "node": {"a.c": 2}})
    assert both == {"rate": 5, "node": {"a.b": 1, "a.c": 2}}


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_published_plans_can_be_run(path: Path) -> None:
    plan = load_plan(path)
    assert plan.question
    assert path.read_text(encoding="utf-8").startswith("# ")
    for run in plan.runs:
        assert isinstance(run, ClusterPlan)
        assert run.document()["name"] == run.name
