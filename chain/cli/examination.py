"""One examination of `headrace doctor`: all checks of a node, the comparison with its peers, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.cli.checkup import (
    Asked,
    Check,
    ask,
    ask_all,
    check_blocks,
    check_certificates,
    check_clock,
    check_disk,
    check_peers,
    check_running,
    check_state,
    guarded,
    ok,
    problem,
    unknown,
)
from chain.cli.common import why
from chain.cli.comparison import (
    Comparison,
    check_certificate,
    compare,
    content_at,
    first_difference,
    investigate,
    name_over_api,
    tally,
)
from chain.cli.sides import CANNOT_LOOK, ApiSide, Content, FolderSide, Side
from chain.client import Client, NodesUnreachable
from chain.config import NodeConfig, load_node_config
from chain.errors import ConfigError, DecodeError, InvariantError, StoreError
from chain.model.genesis import Genesis, chain_id, check_genesis
from chain.model.genesis_json import load_genesis
from chain.model.trust import SETS_PREFIX
from chain.model.validators import Validator, ValidatorSet
from chain.node.consortium import load_validator_key
from chain.node.divergence import load_divergence
from chain.node.rebuild import Rebuilt, rebuild_state
from chain.node.replay import Replayer
from chain.store import StateReader
from chain.types import ValidatorId
from contracts.system.membership import scheduled_rows

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found. `difference` is None where the node agrees with every peer that was asked."""

    node: dict[str, Any]
    running: bool  # it answered
    checks: tuple[Check, ...]
    difference: Comparison | None
    advice: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return self.difference is None and all(check.state != "problem" for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patient:
    """A node under examination. `replayer` is None where only its API is at hand."""

    side: FolderSide | ApiSide
    validator: ValidatorId
    sets: tuple[ValidatorSet, ...]
    replayer: Replayer | None
    folder: Path | None


async def examine_folder(folder: Path, peers: Sequence[str], tell: Tell, *, start: str = "") -> Examination:
    """A node by its folder, and by its API if it runs. `start`: it must run, and this starts it.

    Raises:
        ConfigError: no usable node.toml or genesis. StoreError: its blocks cannot be opened.
    """
    config, genesis = _load(folder)
    data = config.path("data")
    own, others = await ask(_own_url(config)), await ask_all(peers)
    async with contextlib.AsyncExitStack() as stack:
        replayer = stack.enter_context(Replayer(data, genesis))
        stored = replayer.stored
        report = load_divergence(data)
        stale = report is not None and int(report["height"]) <= stored.blocks.height()
        side = FolderSide(config.node.name, stored, None if stale else report)
        sides = [await _side(stack, other.url) for other in others if other.status is not None]
        sets = await _known_sets(genesis, sides, data / "state")
        checks = [
            guarded("certificates", lambda: check_certificates(config, genesis)),
            check_disk(data),
            guarded("blocks", lambda: check_blocks(stored, sets)),
            guarded("state", lambda: check_state(stored)),
            _check_journal(stored.path),
            *check_running(own, start=start),
            *check_peers(
                others, height=stored.blocks.height(), chain_id="0x" + chain_id(genesis).hex(),
                alone=len(genesis.validators) == 1,
            ),
            check_clock(own, others, drift_ms_max=genesis.parameters.timestamp_drift_ms_max),
        ]
        if report is not None and stale:
            checks.append(ok("divergence.json", f"of height {report['height']}, which is certified here since"))
        patient = _Patient(
            side=side, validator=load_validator_key(config.path("validator_key")).validator_id, sets=sets,
            replayer=replayer, folder=folder,
        )  # fmt: skip
        found, advice, more = await _differ(patient, sides, report=None if stale else report, tell=tell)
    node = {"name": config.node.name, "folder": str(folder), "url": own.url, "height": await side.height()}
    running = own.status is not None
    return Examination(node=node, running=running, checks=(*checks, *more), difference=found, advice=advice)


async def examine_url(url: str, peers: Sequence[str]) -> Examination:
    """A node by its API only: no look at its disk and certificate, and transactions are named by receipts only.

    Raises:
        NodesUnreachable: it does not answer.
    """
    own, others = await ask(url), await ask_all(peers)
    if own.status is None:
        raise NodesUnreachable({url: own.error})
    async with contextlib.AsyncExitStack() as stack:
        side = await _side(stack, url, str(own.status["name"]))
        genesis = await side.client.genesis()
        sides = [await _side(stack, other.url) for other in others if other.status is not None]
        checks = [
            *check_running(own),
            *check_peers(
                others, height=int(own.status["certified_height"]), chain_id=str(own.status["chain_id"]),
                alone=len(genesis.validators) == 1,
            ),
            check_clock(own, others, drift_ms_max=genesis.parameters.timestamp_drift_ms_max),
        ]
        validator = ValidatorId(bytes.fromhex(own.status["validator_id"][2:]))
        sets = await _known_sets(genesis, [side, *sides])
        patient = _Patient(side=side, validator=validator, sets=sets, replayer=None, folder=None)
        report = await side.divergence()
        found, advice, more = await _differ(patient, sides, report=report, tell=lambda _: None)
    node = {"name": str(own.status["name"]), "folder": None, "url": url, "height": own.status["certified_height"]}
    return Examination(node=node, running=True, checks=(*checks, *more), difference=found, advice=advice)


def rebuild_folder(folder: Path, take_back_vote: int | None, tell: Tell) -> Rebuilt:
    """`chain.node.rebuild.rebuild_state` on a node's folder. Raises what that and `load_node_config` raise."""
    config, genesis = _load(folder)

    def progress(what: str, done: int, total: int) -> None:
        tell(f"  {what}: {done:,} of {total:,} blocks")

    return rebuild_state(config.path("data"), genesis, take_back_vote=take_back_vote, progress=progress)


def _load(folder: Path) -> tuple[NodeConfig, Genesis]:
    if not (folder / "node.toml").exists():
        raise ConfigError(f"{folder} holds no node.toml; give the folder of a node")
    config = load_node_config(folder / "node.toml")
    genesis = load_genesis(config.path("genesis"))
    check_genesis(genesis)
    return config, genesis


def _own_url(config: NodeConfig) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.rpc.host, config.rpc.host)
    return f"http://{host}:{config.rpc.port}"


async def _side(stack: contextlib.AsyncExitStack, url: str, name: str | None = None) -> ApiSide:
    client = await stack.enter_async_context(Client(url, timeout_ms=10_000, retry_ms=0))
    if name is None:
        name = str((await client.status())["name"])
    return ApiSide(name, client)


async def _known_sets(
    genesis: Genesis, sides: Sequence[ApiSide], state: Path | None = None
) -> tuple[ValidatorSet, ...]:
    """The first validators, those that the node's state has scheduled, and those of now as nodes tell them; a header
    says by hash which it means."""
    found = [ValidatorSet(genesis.validators)]
    if state is not None:
        with contextlib.suppress(StoreError, DecodeError):
            reader = StateReader(state)
            try:
                found += [known for _, known in scheduled_rows(reader.scan(SETS_PREFIX))]
            finally:
                reader.close()
    for side in sides:
        try:
            answer = await side.client.rpc("get_validators")
            told = ValidatorSet(
                Validator(
                    name=item["name"], public_key=bytes.fromhex(item["public_key"][2:]), weight=int(item["weight"])
                )
                for item in answer["validators"]
            )
        except (*CANNOT_LOOK, ConfigError, ValueError, KeyError):
            continue
        if all(told.digest != known.digest for known in found):
            found.append(told)
    return tuple(found)


def _check_journal(data: Path) -> Check:
    journal = data / "journal" / "data.mdb"
    if journal.exists() and journal.stat().st_size:
        return ok("journal", f"{journal.stat().st_blocks * 512 / 2**20:.1f} MiB on disk")
    advice = "do not start this node with its validator key: it no longer knows what it voted"
    return problem("journal", f"{journal} is missing", advice)


# --- where it parts ---


async def _differ(
    patient: _Patient, sides: Sequence[ApiSide], *, report: dict[str, Any] | None, tell: Tell
) -> tuple[Comparison | None, tuple[str, ...], list[Check]]:
    """The first difference from the first peer that has one, a certified one preferred."""
    found: tuple[Content, Content, str, ApiSide] | None = None
    more: list[Check] = []
    agreeing = []
    for side in sides:
        try:
            pair = await first_difference(patient.side, side)
        except CANNOT_LOOK as error:
            more.append(unknown("comparison", f"with {side.name}: {why(error)}"))
            continue
        if pair is None:
            agreeing.append(side.name)
        elif pair[0].header_hash != pair[1].header_hash and (
            found is None or (pair[1].certificate is not None and found[1].certificate is None)
        ):
            found = (*pair, side)
    if agreeing:
        more.append(ok("comparison", f"the same blocks as {', '.join(agreeing)}"))
    if found is None:
        if report is not None:
            text = f"divergence.json of height {report['height']}: {report['reason']}; no peer to compare with"
            more.append(problem("divergence", text, "give --peer URL of a healthy node"))
        return None, (), more
    mine, theirs, reason, peer = found
    comparison = compare(mine, theirs, reason=reason, peer=peer.name)
    signers, wrong = check_certificate(theirs, patient.sets)
    comparison.certificate_problem = "" if theirs.certificate is None else wrong
    statements = await _statements(patient, sides, mine)
    proved = theirs if theirs.certificate is not None and not wrong else None
    comparison.signed = tally(statements, proved, signers or patient.sets[0])
    if patient.replayer is not None:
        try:
            investigate(comparison, mine, theirs, replayer=patient.replayer, progress=tell)
        except (*CANNOT_LOOK, InvariantError) as error:
            more.append(unknown("cause", str(error)))
    if comparison.transaction is None and comparison.key is None:
        await name_over_api(comparison, mine, theirs, peer)
    return comparison, tuple(_advice(comparison, patient)), more


async def _statements(patient: _Patient, sides: Sequence[Side], mine: Content) -> dict[bytes, set[ValidatorId]]:
    """Which header each node that can be asked stands by at the height, as it says itself."""
    said: dict[bytes, set[ValidatorId]] = {mine.header_hash: {patient.validator}}
    for side in sides:
        if not isinstance(side, ApiSide):
            continue
        try:
            status = await side.client.status()
            content = await content_at(side, mine.height)
        except CANNOT_LOOK:
            continue
        if content is not None:
            said.setdefault(content.header_hash, set()).add(ValidatorId(bytes.fromhex(status["validator_id"][2:])))
    return said


def _advice(found: Comparison, patient: _Patient) -> list[str]:
    """What to do, in order. `docs/recovery.md` has the whole procedure."""
    folder = patient.folder or "NODE_FOLDER"
    command = f"headrace doctor rebuild {folder} --take-back-vote {found.height}"
    keep = "keep a copy of the data folder and the log before anything is changed"
    cause = {
        "stored_state": "look for what damaged the state: disk, memory, a restored backup",
        "program": "compare the version of the program and of Python, and the machine, with the peers'",
    }.get(found.cause, "run doctor on the node's folder to learn the cause")
    if found.reason == "certified_blocks_differ":
        return [
            keep,
            "either two blocks of one height are certified or a store was altered: compare with all nodes",
            "go on only with the nodes whose certificate holds",
        ]
    if found.own_in_minority:
        return [
            keep,
            cause,
            "stop this node",
            command,
            "start this node: it executes the height again, agrees, and catches up",
        ]
    if found.own_in_minority is None:
        return [
            "no header has a quorum: the chain stands. Stop all nodes",
            keep,
            "run doctor on every node; agree which header is right: what the agreed program makes of a sound state",
            cause,
            f"on every node that signed another header: {command}",
            "start all nodes; those that signed the right header need nothing else",
        ]
    return [keep, "this node is with the majority: run doctor on the others"]


__all__ = ["Asked", "Examination", "examine_folder", "examine_url", "rebuild_folder"]
