"""`headrace demo`: a consortium of four, real data through both suites, one node killed and back, everything checked.

It exits with 0 only if every check held. The network's folder stays, and `headrace network start` starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from chain.cli.demo.credit_flow import credit_phases, load_german_credit
from chain.cli.demo.driver import DemoFailed, Driver, Tally
from chain.cli.demo.income_flow import income_phases, load_census_income
from chain.cli.demo.summary import Checks, check_offline, compare_nodes, document, show
from chain.cli.demo.workload import Parties, Signer, subject_secret
from chain.cli.hints import command_hint
from chain.cli.processes import NetworkProcesses, NodeExited
from chain.client import Client
from chain.client.stages import stage_summary
from chain.crypto import PrivateKey, Scheme
from chain.errors import ConfigError, HeadraceError
from chain.node.consortium import DEFAULT_NODES, NetworkInfo, create_network, load_account, load_network
from chain.rpc.values import value_to_json
from contracts import credit, income
from contracts.suite import Suite, resolve

MARK: Final = "demo.json"  # the summary; also says that a folder is a demonstration's and may be replaced
PARTIES: Final[Mapping[str, str]] = {
    "regulator": "regulator", "bank_a": "harbour-bank", "bank_b": "delta-bank", "agency": "pearl-credit",
}  # fmt: skip
KILL_AT: Final = 0.40  # of all transactions certified: one node is killed
RESTART_AT: Final = 0.65  # and comes back
CATCH_UP_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`credit_rows` of 1,000 and `income_rows` of 1,000; the rest is about where and how it shows."""

    folder: Path
    credit_rows: int = 1_000
    income_rows: int = 300
    executors: int = 2
    as_json: bool = False


def run_demo(options: DemoOptions) -> int:
    """0 if everything held, 1 if not, 130 on Ctrl-C; never leaves a process running."""
    console = Console(stderr=options.as_json)
    try:
        with asyncio.Runner() as runner:
            result = runner.run(_interruptible(_Demo(options, console).run()))
    except HeadraceError as error:
        console.print(f"[bold red]The demonstration failed:[/bold red] {error}", highlight=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped; every process it started has ended")
        return 130
    if options.as_json:
        print(json.dumps(result))
    return 0 if result["ok"] else 1


async def _interruptible(work: Any) -> dict[str, Any]:
    """SIGTERM and a closed terminal end it as Ctrl-C does."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    result: dict[str, Any] = await task
    return result


class _Demo:
    def __init__(self, options: DemoOptions, console: Console) -> None:
        self.options = options
        self.console = console
        self.checks = Checks()
        self.tally = Tally()
        self.extra: dict[str, Any] = {}

    async def run(self) -> dict[str, Any]:
        self._say("1", "a consortium of four organisations: keys, certificates, genesis")
        self.network = self._create()
        self._say("", f"chain {self.network.chain_id.hex()[:16]}… in {self.network.path}")
        self.processes = NetworkProcesses(self.network)
        self._say("2", "four node processes, each with its executors and databases, mutual TLS between them")
        try:
            await self.processes.start_all(progress=lambda name, state: self._say("", f"{name} is {state}"))
            result = await self._show_it()
        finally:
            self._say("7", "stopping everything")
            codes = await asyncio.shield(self.processes.stop())
        clean = all(code in (0, None) for code in codes.values())
        self.checks.add("clean stop", clean, ", ".join(f"{name} exit {code}" for name, code in codes.items()))
        result["ok"] = self.checks.all_held
        result["checks"]["clean stop"] = {"held": clean, "seen": self.checks.results["clean stop"][1]}
        (self.network.path / MARK).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        show(self.console, result)
        self.console.print(
            f"\nThe network stays in {self.network.path}; start it again with\n"
            f"  {command_hint('network start', self.network.path)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return result

    def _say(self, step: str, text: str) -> None:
        self.console.print(f"[bold]{step:>2}[/bold]  {text}", highlight=False)

    def _create(self) -> NetworkInfo:
        """A new network; the folder of an earlier demonstration that is not running makes room."""
        folder = self.options.folder
        if (folder / MARK).exists():
            running = NetworkProcesses(load_network(folder)).running_names()
            if running:
                stop = command_hint("network stop", folder)
                raise ConfigError(f"{folder} is running ({', '.join(running)}). This stops it: {stop}")
            self._say("", f"replacing the earlier demonstration in {folder}")
            shutil.rmtree(folder)
        network = create_network(folder, name="Headrace demo", nodes=DEFAULT_NODES, executors=self.options.executors)
        (folder / MARK).write_text("{}\n", encoding="utf-8")
        return network

    # --- the work ---

    async def _show_it(self) -> dict[str, Any]:
        self._make_parties()
        async with contextlib.AsyncExitStack() as stack:
            self.clients = {
                node.name: await stack.enter_async_context(Client([node.rpc_url])) for node in self.network.nodes
            }
            self._say("3", "deploying the credit-reporting and income-verification suites from source")
            for suite in (credit.SUITE, income.SUITE):
                await self._deploy(suite)
            await self._run_flows()
            return await self._conclude()

    def _make_parties(self) -> None:
        self.seed = secrets.token_bytes(32)
        accounts = {role: load_account(self.network.account_path(name)) for role, name in PARTIES.items()}
        subjects = max(self.options.credit_rows, self.options.income_rows)

        @cache
        def subject_key(index: int) -> PrivateKey:
            return PrivateKey.from_secret(Scheme.ED25519, subject_secret(self.seed, index))

        def key_of(signer: Signer) -> PrivateKey:
            return accounts[signer] if isinstance(signer, str) else subject_key(signer[1])

        self.keys: Callable[[Signer], PrivateKey] = key_of
        self.parties = Parties(
            organisations={role: key.address for role, key in accounts.items()},
            subjects=[subject_key(index).address for index in range(subjects)],
        )
        self.contracts: dict[str, bytes] = {}

    async def _deploy(self, suite: Suite) -> None:
        """Contracts in order, then the calls that make them known to each other."""
        client = next(iter(self.clients.values()))
        roles = self.parties.roles()
        admin = self.keys("regulator")
        for deployment in suite.deployments:
            arguments = resolve(deployment.arguments, roles, self.contracts)
            self.contracts[deployment.name] = await client.deploy(
                deployment.name, deployment.source_text(), *arguments, key=admin
            )
        for call in suite.wiring:
            arguments = resolve(call.arguments, roles, self.contracts)
            await client.send(self.contracts[call.contract], call.method, *arguments, key=admin)
        self._say("", f"{suite.name}: {len(suite.deployments)} contracts")

    async def _run_flows(self) -> None:
        now_ms = int((await next(iter(self.clients.values())).status())["block_time_ms"])
        credit_rows = load_german_credit(self.options.credit_rows)
        income_rows = load_census_income(self.options.income_rows)
        now_ms = max(now_ms, time.time_ns() // 1_000_000)
        flows = [
            credit_phases(credit_rows, self.parties, seed=self.seed, now_ms=now_ms),
            income_phases(income_rows, self.parties, seed=self.seed, now_ms=now_ms),
        ]
        self.record = next(
            call
            for phase in flows[0]
            for call in phase.calls
            if (call.contract, call.method, call.result) == ("credit.record", "submit", "ok")
        )
        total = sum(len(phase.calls) for phases in flows for phase in phases)
        self._say(
            "4",
            f"{len(credit_rows):,} credit applicants and {len(income_rows):,} incomes: {total:,} transactions, "
            "some of which must be refused",
        )
        self._say("5", "one node, the leader, is killed with SIGKILL on the way and comes back")
        async with self._progress(total) as advance:
            driver = Driver(
                urls={node.name: node.rpc_url for node in self.network.nodes},
                keys=self.keys,
                contracts=self.contracts,
                tally=self.tally,
                progress=advance,
                check_nodes=self._check_nodes,
                say=lambda text: self._say("", text),
            )
            self.down = driver.avoid
            try:
                await driver.start()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._kill_and_restart(driver, total))
                    for phases in flows:
                        tasks.create_task(driver.run(phases))
            except* HeadraceError as group:
                raise group.exceptions[0] from None
            finally:
                await driver.close()
        self.checks.add(
            "answers", self.tally.certified == total and not self.tally.unexpected,
            f"{self.tally.certified:,} of {total:,} certified, {len(self.tally.unexpected)} other than expected",
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _progress(self, total: int) -> AsyncIterator[Callable[[int], None]]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("    certified", total=total)
            yield lambda count: progress.update(task, advance=count)

    def _check_nodes(self) -> None:
        for node in self.network.nodes:
            if node.name not in self.down and self.processes.running(node.name) is None:
                raise NodeExited(node, self.processes.exit_code(node.name), self.processes.log_tail(node.name, 3))

    # --- one node dies ---

    async def _kill_and_restart(self, driver: Driver, total: int) -> None:
        await self._reach(KILL_AT * total)
        survivors = [node.name for node in self.network.nodes]
        victim = (await self.clients[survivors[0]].status())["consensus"]["leader_name"]
        survivors.remove(victim)
        driver.avoid.add(victim)
        killed_s = time.monotonic()
        certified = self.tally.certified
        await self.processes.kill(victim)
        self._say("", f"{victim} killed after {certified:,} transactions; the others go on")
        await self._reach(min(RESTART_AT * total, total))
        seconds = time.monotonic() - killed_s
        self._say("", f"{self.tally.certified - certified:,} transactions certified by three nodes in {seconds:.1f} s")
        behind = await self._certified_height(survivors[0])
        started_s = time.monotonic()
        self.processes.start(victim)
        reached = await self._catch_up(victim, behind)
        took = time.monotonic() - started_s
        driver.avoid.discard(victim)
        self._say("", f"{victim} is back: {reached:,} blocks, caught up in {took:.1f} s")
        self.checks.add(
            "catch-up", True, f"{victim} was killed, came back and caught up to height {reached} in {took:.1f} s"
        )
        self.extra["killed"] = {"node": victim, "down_s": round(seconds, 1), "catch_up_s": round(took, 1)}

    async def _reach(self, certified: float) -> None:
        while self.tally.certified < certified:
            await asyncio.sleep(0.05)

    async def _certified_height(self, name: str) -> int:
        return int((await self.clients[name].status())["certified_height"])

    async def _catch_up(self, victim: str, height: int) -> int:
        deadline = time.monotonic() + CATCH_UP_S
        await self.processes.wait_ready([victim])
        while (reached := await self._certified_height(victim)) < height:
            if time.monotonic() > deadline:
                raise DemoFailed(f"{victim} stands at height {reached} and did not reach {height} in {CATCH_UP_S:g} s")
            await asyncio.sleep(0.05)
        return reached

    # --- the end ---

    async def _conclude(self) -> dict[str, Any]:
        self._say("6", "checking")
        height = max([await self._certified_height(name) for name in self.clients])
        for name, client in self.clients.items():
            answer = await client.rpc("get_header", height=height, min_height=height)
            if int(answer["height"]) != height:
                raise DemoFailed(f"{name} did not reach height {height}")
        self.checks.add("agreement", *await compare_nodes(self.clients, height))
        await self._check_proofs()
        # The leader since the kill has seen every stage; the killed node has not, and followers do not pack.
        leader = (await self.clients["regulator"].status())["consensus"]["leader_name"]
        stages = await stage_summary(self.clients[leader], 1, height)
        self.checks.add("pipelining", stages.overlap > 1.0, f"{stages.overlap:.2f} stages at work on average")
        return document(self.tally, stages, self.checks, blocks=height, extra=self.extra)

    async def _check_proofs(self) -> None:
        """One applicant's credit record and the receipt of one transaction, by the stand-alone verifier."""
        client = self.clients["regulator"]
        subject, agency, record_id, _, commitment = self.record.arguments[:5]
        key = [value_to_json(part) for part in (subject, agency, record_id)]
        answer = await client.rpc("get_value_proof", target="credit.record", variable="items", key=key)
        held, seen = await check_offline(self.network.genesis_path, answer["proof"], self.network.path, "record-proof")
        assert isinstance(commitment, bytes)
        self.checks.add("record proof", held, seen)
        inside = commitment.hex() in json.dumps(answer["proof"])
        self.checks.add(
            "record is the applicant's", inside, f"the proved value holds the fingerprint {commitment.hex()[:16]}…"
        )
        answer = await client.rpc("get_receipt_proof", hash=self.tally.hashes[0])
        held, seen = await check_offline(self.network.genesis_path, answer["proof"], self.network.path, "receipt-proof")
        self.checks.add("receipt proof", held, seen)
