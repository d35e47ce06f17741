"""What a sweep says of its rates, and what is asked of a network that runs already."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.plan import ClusterPlan, Sweep
from bench.cluster.results import Point, Role
from bench.cluster.run import find_knee, short_windows
from bench.cluster.target import Remote, Target, check_deployer, network_found
from chain.cli.main import main
from chain.crypto import PrivateKey, Scheme
from chain.errors import ConfigError
from tests.unit.bench.cluster_samples import point

KEY = PrivateKey.from_secret(Scheme.ED25519, bytes(31) + b"\x07")


def swept(limit: float, **settings: Any) -> tuple[float | None, list[str]]:
    """The knee on a chain that certifies up to `limit` a second, and what is said."""
    plan = ClusterPlan(sweep=Sweep(**settings))
    target = Target(urls=[], names=[], key=KEY, folder=Path())
    said: list[str] = []

    async def at(role: Role, rate: float, seconds: float) -> Point:
        return point(role=role, offered_tps=rate, seconds=seconds, tps=min(rate, limit))

    best = asyncio.run(find_knee(plan, target, at, said.append))
    return best.offered_tps if best else None, said


def test_a_rate_that_is_not_sustained_says_why_and_what_is_left() -> None:
    assert swept(193.8, rates=(100.0, 200.0, 400.0, 800.0)) == (
        100.0,
        [
            "200/s not sustained: 96.9 % certified, at least 97 % needed",
            "knee: 100 transactions a second; not tried: 400, 800/s",
        ],
    )
    assert swept(50.0, rates=(100.0, 200.0)) == (
        None,
        [
            "100/s not sustained: 50 % certified, at least 97 % needed",
            "knee: below the first rate: 100/s not sustained: 50 % certified, at least 97 % needed; not tried: 200/s",
        ],
    )
    assert swept(900.0, rates=(100.0, 200.0)) == (200.0, ["knee: 200 transactions a second"])
    assert swept(150.0, start=100, factor=2.0, refine=0)[1][-1] == "knee: 100 transactions a second"


def test_a_sweep_with_short_windows_is_warned_of() -> None:
    assert "windows of 5 s: below 15 s" in short_windows(ClusterPlan(sweep=Sweep(), seconds=5))
    assert short_windows(ClusterPlan(sweep=Sweep(), seconds=15)) == short_windows(ClusterPlan(seconds=5)) == ""


def test_validators_that_were_not_addressed_are_counted_all_the_same() -> None:
    validators = [{"id": f"0x{at}"} for at in range(4)]
    statuses = [{"validator_id": f"0x{at}", "executors": 2} for at in (1, 3)]
    assert network_found(["u", "v"], validators, statuses) == {
        "urls": ["u", "v"], "nodes": 4, "addressed": 2, "executors": 2
    }  # fmt: skip
    observer = {"validator_id": "0x9", "executors": 1}
    assert network_found(["u", "v"], validators, [statuses[0], observer]) == {
        "urls": ["u", "v"], "nodes": 4, "addressed": 1
    }  # fmt: skip


def test_an_account_that_may_not_deploy_is_refused_by_its_file() -> None:
    remote = Remote(urls=("http://a:1",), key=KEY, key_path=Path("accounts/bank.json"))
    check_deployer(remote, ())
    check_deployer(remote, (bytes(20), KEY.address))
    named = rf"--key is 'accounts/bank.json', of the account 0x{KEY.address.hex()}, which may not deploy"
    with pytest.raises(ConfigError, match=named):
        check_deployer(remote, (bytes(20),))


def test_a_key_is_asked_for_by_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "cluster", "--url", "http://127.0.0.1:1"]) == 2
    assert "NETWORK/accounts/operator.json" in capsys.readouterr().err
