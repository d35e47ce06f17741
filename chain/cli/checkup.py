"""The checks of `headrace doctor` on one node: stores, certificates, disk, clock, peers. They change nothing."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp

from chain.cli.comparison import check_certificate
from chain.cli.sides import Content
from chain.client import Client, NodesUnreachable, RpcFailed
from chain.codec import decode
from chain.config import NodeConfig
from chain.crypto.certificates import certificate_sha256, is_issued_by, read_node_identity
from chain.errors import BadInput, ConfigError, DecodeError, HeadraceError, StoreError
from chain.model.block import Certificate, decode_header, header_hash
from chain.model.genesis import Genesis
from chain.model.merkle import merkle_root, state_root
from chain.model.validators import ValidatorSet
from chain.store import StateReader, StoredChain

State = Literal["ok", "problem", "unknown"]

RECENT_BLOCKS: Final = 64  # looked at closely
STATE_LAG_MAX: Final = 512  # heights that the state may be behind the blocks; the node applies them when it starts
DISK_FREE_MIN_BYTES: Final = 1024**3
DISK_FREE_MIN_SHARE: Final = 0.05
EXPIRY_WARNING: Final = datetime.timedelta(days=30)
ASK_MS: Final = 3_000
BEHIND_MAX: Final = 32  # heights
CLOCK_ROUNDING_MS: Final = 1_000  # what peers say of their clock is in whole seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. `unknown`: it could not be looked at, which is no problem by itself."""

    name: str
    state: State
    detail: str
    advice: str = ""


def ok(name: str, detail: str) -> Check:
    return Check(name=name, state="ok", detail=detail)


def problem(name: str, detail: str, advice: str) -> Check:
    return Check(name=name, state="problem", detail=detail, advice=advice)


def unknown(name: str, detail: str) -> Check:
    return Check(name=name, state="unknown", detail=detail)


# --- the node's folder ---


def check_certificates(config: NodeConfig, genesis: Genesis, *, now: datetime.datetime | None = None) -> Check:
    """The node's certificate: of the consortium's CA, for this validator, and valid for a while yet."""
    name = "certificates"
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        own, authority = config.path("tls_certificate").read_bytes(), config.path("ca_certificate").read_bytes()
        identity = read_node_identity(own)
        issued = is_issued_by(own, authority)
        fingerprint = certificate_sha256(authority)
    except (OSError, ValueError, BadInput) as error:
        return problem(name, f"cannot be read: {error}", "restore the certificate files of this node")
    if fingerprint != genesis.ca_certificate_sha256 or not issued:
        return problem(name, "not issued by the consortium's CA", "ask the consortium's CA for a certificate")
    left = identity.expires - now
    days = left.total_seconds() / 86_400
    if left < EXPIRY_WARNING:
        what = f"expired {-days:.0f} days ago" if days < 0 else f"expires in {days:.0f} days"
        return problem(name, what, "issue a new certificate and put it in place before other nodes refuse this one")
    return ok(name, f"valid for {days:.0f} days")


def check_disk(folder: Path) -> Check:
    """Room left on the file system of the data folder."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return unknown("disk", f"{folder}: {error.strerror}")
    text = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f}"
    if usage.free < DISK_FREE_MIN_BYTES or usage.free < DISK_FREE_MIN_SHARE * usage.total:
        return problem("disk", text, "free or add space: a node whose disk is full stops")
    return ok("disk", text)


def check_blocks(stored: StoredChain, sets: Sequence[ValidatorSet]) -> Check:
    """The last blocks hold together: parents, roots, certificates, bodies, and state roots out of the write sets."""
    name, blocks = "blocks", stored.blocks
    tip = blocks.height()
    first = max(1, tip - RECENT_BLOCKS + 1)
    advice = "compare with a peer (--peer); move the data folder away and let the node begin anew if it is damaged"
    parent = blocks.header(first - 1)
    for height in range(first, tip + 1):
        try:
            wrong = _wrong_with_block(stored, height, parent, sets)
        except HeadraceError as error:
            wrong = str(error)
        if wrong:
            return problem(name, f"block {height}: {wrong}", advice)
        parent = blocks.header(height)
    return ok(name, f"height {tip}; the last {tip - first + 1} re-derived from what is stored")


def _wrong_with_block(stored: StoredChain, height: int, parent: bytes | None, sets: Sequence[ValidatorSet]) -> str:
    block = stored.blocks.block(height)
    if block is None:
        return "it is missing"
    header, certificate = decode_header(block.header), decode(Certificate, block.certificate)
    hashes = [block.hashes[at : at + 32] for at in range(0, len(block.hashes), 32)]
    if certificate.digest != header_hash(header):
        return "its certificate is for another header"
    content = Content(
        height=height, header_hash=header_hash(header), hashes=(), receipts=None, writes=None, certificate=certificate,
        header={"validator_set_hash": header.validator_set_hash, "chain_id": header.chain_id},
    )  # fmt: skip
    signers, wrong = check_certificate(content, sets)
    if signers is not None and wrong:
        return f"its certificate is wrong: {wrong}"
    if merkle_root(hashes) != header.transaction_root:
        return "its transaction hashes are not those of its header"
    if merkle_root(block.receipts) != header.receipt_root:
        return "its receipts are not those of its header"
    if stored.proposal(block.proposal_digest) is None:
        return "the bodies of its transactions are missing"
    if parent is None:
        return ""
    before = decode_header(parent)
    if header.parent_hash != header_hash(before):
        return "it does not follow the block before it"
    if state_root(before.state_root, stored.blocks.write_set(height)) != header.state_root:
        return "its write set does not lead to its state root"
    return ""


def check_state(stored: StoredChain) -> Check:
    """The state stands at the blocks' height or a little behind, on the same root, and holds what the last blocks
    wrote."""
    name, blocks = "state", stored.blocks
    try:
        reader = StateReader(stored.path / "state")
    except StoreError as error:
        return problem(name, str(error), "headrace doctor rebuild makes the state again from the blocks")
    advice = "stop the node; headrace doctor rebuild makes the state again from the blocks"
    try:
        height, tip = reader.height(), blocks.height()
        raw = blocks.header(height)
        if raw is None and height > tip:
            # The node went on between the two looks.
            return ok(name, f"height {height}")
        if raw is None or decode_header(raw).state_root != reader.state_root():
            return problem(name, f"its root at height {height} is not the block's", advice)
        if tip - height > STATE_LAG_MAX:
            return problem(name, f"height {height}, {tip - height} behind the blocks", advice)
        expected: dict[bytes, tuple[bytes | None, int]] = {}
        for at in range(max(1, height - RECENT_BLOCKS + 1), height + 1):
            expected.update({key: (value, at) for key, value in blocks.write_set(at)})
        for key in sorted(expected):
            value, at = expected[key]
            if reader.get(key) != value:
                text = f"key 0x{key.hex()} holds another value than block {at} wrote"
                return problem(name, text, advice)
        return ok(name, f"height {height}, {len(expected)} keys of the last blocks as written")
    finally:
        reader.close()


# --- over the network ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a node answered. `clock_ms`: its clock minus ours, in the middle of the second that it names."""

    url: str
    status: Mapping[str, Any] | None
    error: str
    clock_ms: float | None


async def ask(url: str) -> Asked:
    """A node's status and clock; never raises."""
    clock: float | None = None
    async with Client(url, timeout_ms=ASK_MS, retry_ms=0) as client:
        try:
            status = await client.status()
        except (NodesUnreachable, RpcFailed) as error:
            return Asked(url=url, status=None, error=_reason(url, error), clock_ms=None)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_MS / 1_000)) as session:
            before = time.time()
            async with session.get(f"{url.rstrip('/')}/health/live") as answer:
                middle = (before + time.time()) / 2
                said = answer.headers.get("Date")
        if said is not None:
            clock = (email.utils.parsedate_to_datetime(said).timestamp() + 0.5 - middle) * 1_000
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        clock = None
    return Asked(url=url, status=status, error="", clock_ms=clock)


def _reason(url: str, error: NodesUnreachable | RpcFailed) -> str:
    return error.failures.get(url, str(error)) if isinstance(error, NodesUnreachable) else str(error)


def check_running(own: Asked, *, start: str = "") -> list[Check]:
    """The node's own view of itself. Where it must run, `start` says how to start it: no answer is a problem then."""
    if own.status is None:
        text = f"the node does not answer at {own.url}: it does not run, or cannot be reached"
        return [problem("running", text, f"start it: {start}") if start else unknown("running", text)]
    status = own.status
    consensus = status["consensus"]
    checks = [ok("running", f"height {status['certified_height']}, view {consensus['view']}")]
    if consensus["diverged"]:
        checks.append(problem("voting", f"it stopped voting: {consensus['diverged']}", "see the divergence below"))
    else:
        checks.append(ok("voting", "in agreement" if consensus["is_validator"] else "not a validator"))
    remarks = [text for text in status["problems"] if not text.startswith("this node stopped voting")]
    if remarks:
        checks.append(problem("standing", "; ".join(remarks), "look at the nodes named; headrace network status"))
    return checks


def check_peers(peers: Sequence[Asked], *, height: int, chain_id: str, alone: bool = False) -> list[Check]:
    """Each peer can be asked, is of this chain, and is about as far. `alone`: the chain began with one validator."""
    if not peers and alone:
        return [ok("peers", "none: it is the only validator, and nobody else answers for the chain")]
    if not peers:
        return [unknown("peers", "none known: give --peer URL")]
    checks = []
    silent = [peer.url for peer in peers if peer.status is None]
    strange = [peer.url for peer in peers if peer.status is not None and peer.status["chain_id"] != chain_id]
    heights = {peer.url: int(peer.status["certified_height"]) for peer in peers if peer.status is not None}
    if silent:
        text = f"{len(silent)} of {len(peers)} do not answer: {', '.join(silent)}"
        checks.append(problem("peers", text, "start those nodes, or look at the way to them"))
    if strange:
        checks.append(problem("peers", f"of another chain: {', '.join(strange)}", "ask nodes of this chain"))
    ahead = max(heights.values(), default=height) - height
    if ahead > BEHIND_MAX:
        checks.append(problem("height", f"{ahead} heights behind", "wait for it to catch up; if it does not, its log"))
    elif heights:
        checks.append(ok("height", f"{height}, peers at {', '.join(map(str, sorted(heights.values())))}"))
    if not silent and not strange:
        checks.append(ok("peers", f"{len(peers)} answer"))
    return checks


def check_clock(own: Asked | None, peers: Sequence[Asked], *, drift_ms_max: int) -> Check:
    """The node's clock against the median of its peers'. Where the node does not answer, this machine's counts."""
    name = "clock"
    offsets = sorted(peer.clock_ms for peer in peers if peer.clock_ms is not None)
    if not offsets:
        return unknown(name, "no peer to compare with")
    mine = own.clock_ms if own is not None and own.clock_ms is not None else 0.0
    offset = mine - offsets[len(offsets) // 2]
    text = f"{abs(offset):.0f} ms {'ahead of' if offset > 0 else 'behind'} the peers, give or take {CLOCK_ROUNDING_MS}"
    if abs(offset) - CLOCK_ROUNDING_MS > drift_ms_max / 2:
        advice = f"set the clock by NTP: proposals over {drift_ms_max} ms ahead of a validator's clock wait"
        return problem(name, text, advice)
    return ok(name, text)


async def ask_all(urls: Sequence[str]) -> list[Asked]:
    return list(await asyncio.gather(*(ask(url) for url in urls)))


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that cannot be made for what is on the disk is a problem by itself."""
    try:
        return check()
    except (StoreError, BadInput, ConfigError, DecodeError) as error:
        return problem(name, str(error), "compare with a peer, or let the node begin with an empty data folder")
