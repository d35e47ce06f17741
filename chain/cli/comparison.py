"""Where two nodes part: the first height, transaction and key, who signed which header, and what lies behind it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from chain.cli.sides import CANNOT_LOOK, ApiSide, Content, FolderSide, Side, diverged_content
from chain.codec import decode
from chain.crypto import Scheme, verify
from chain.errors import BadInput, PeerFault
from chain.model.block import Receipt
from chain.model.signing import decode_transaction
from chain.model.validators import ValidatorSet
from chain.node.replay import Replayer
from chain.store import StateReader
from chain.types import ValidatorId
from consensus import verify_certificate
from contracts.language.compiler import compile_contract
from contracts.runtime import Machine, settle
from contracts.system import SYSTEM_ADDRESS
from executor.outcome import ExecutionInput
from executor.state import BaseState, BlockState
from executor.trace_names import Names, text_of
from executor.transactions import ChainContext, call_at, run_call

KEYS_SHOWN: Final = 20
RECEIPT_FIELDS: Final = ("transaction_hash", "status", "error", "gas_used", "result", "events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The transaction at which two executions part. `exact`: it can be no other of its block."""

    position: int
    transaction_hash: bytes
    contract: bytes
    contract_name: str
    method: str
    exact: bool
    field: str = ""  # of the receipt; empty where the receipts are equal and the writes differ
    own: Any = None
    peer: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDifference:
    """A state key and its values in words. `own` and `other` are None where there is none."""

    key: bytes
    name: str
    own: Any
    other: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Which validators stand behind a header. `source`: a certificate that was checked, or what nodes say."""

    header_hash: bytes
    validators: tuple[str, ...]
    weight: int
    total_weight: int
    quorum: bool
    source: str


@dataclass(slots=True, kw_only=True)
class Comparison:
    """The first difference of a node from a peer."""

    height: int
    reason: str
    peer: str
    own_hash: bytes
    peer_hash: bytes
    fields: tuple[str, ...]
    peer_certified: bool
    certificate_problem: str = ""
    transaction: Where | None = None
    key: KeyDifference | None = None
    keys_different: int = 0
    cause: str = "unknown"  # stored_state, program, unknown
    cause_text: str = ""
    wrong_keys: tuple[KeyDifference, ...] = ()
    signed: list[Signed] = field(default_factory=list)

    @property
    def own_in_minority(self) -> bool | None:
        """True if another header has a quorum, False if this one has, None while none has."""
        for entry in self.signed:
            if entry.quorum:
                return entry.header_hash != self.own_hash
        return None


class Ran(NamedTuple):
    """One transaction of a block, run alone after those before it."""

    transaction_hash: bytes
    target: bytes
    method: str
    receipt: bytes
    writes: dict[bytes, bytes | None]


# --- the first height ---


async def first_difference(own: Side, peer: Side) -> tuple[Content, Content, str] | None:
    """What both have at the first height at which their headers differ, and the reason of a divergence; None where
    they agree as far as both go.

    Headers are chained by hash, so that one different makes all later ones different: bisection finds the first.

    Raises:
        One of `CANNOT_LOOK`.
    """
    common = min(await own.height(), await peer.height())
    if await own.hash_at(common) != await peer.hash_at(common):
        low, high = 0, common  # genesis is equal: the chain ids are
        while high - low > 1:
            middle = (low + high) // 2
            if await own.hash_at(middle) == await peer.hash_at(middle):
                low = middle
            else:
                high = middle
        return await own.block(high), await peer.block(high), "certified_blocks_differ"
    report = await own.divergence()
    if report is None:
        return None
    mine = diverged_content(report)
    theirs = await content_at(peer, mine.height)
    if theirs is None:
        raise BadInput("not_found", f"{peer.name} has nothing at height {mine.height} yet")
    return mine, theirs, str(report["reason"])


async def content_at(side: Side, height: int) -> Content | None:
    """The certified block of a node at a height, or what it had executed there when it stopped voting."""
    if height <= await side.height():
        return await side.block(height)
    report = await side.divergence()
    return diverged_content(report) if report is not None and int(report["height"]) == height else None


# --- what differs ---


def compare(mine: Content, theirs: Content, *, reason: str, peer: str) -> Comparison:
    """Header fields, the first receipt and the first key of two contents of one height."""
    fields = tuple(
        name
        for name in (mine.header if mine.header and theirs.header else ())
        if mine.header[name] != theirs.header.get(name)
    )
    return Comparison(
        height=mine.height,
        reason=reason,
        peer=peer,
        own_hash=mine.header_hash,
        peer_hash=theirs.header_hash,
        fields=fields,
        peer_certified=theirs.certificate is not None,
    )


def first_receipt(mine: Content, theirs: Content) -> tuple[int, bytes, str, Any, Any] | None:
    """(position, transaction hash, field, own value, peer's value) of the first receipt that differs."""
    if mine.receipts is None or theirs.receipts is None:
        return None
    for position in range(max(len(mine.receipts), len(theirs.receipts))):
        pair = [side.receipts[position] if position < len(side.receipts) else None for side in (mine, theirs)]  # type: ignore[arg-type,index]
        if pair[0] == pair[1]:
            continue
        known = [None if raw is None else decode(Receipt, raw) for raw in pair]
        named = next(receipt.transaction_hash for receipt in known if receipt is not None)
        for name in RECEIPT_FIELDS:
            values = [None if receipt is None else getattr(receipt, name) for receipt in known]
            if values[0] != values[1]:
                if name == "events":
                    values = [None if value is None else f"{len(value)} events" for value in values]
                return position, named, name, values[0], values[1]
    return None


def different_keys(mine: Mapping[bytes, bytes | None], theirs: Mapping[bytes, bytes | None]) -> list[bytes]:
    """Keys that only one has, or with different values, ascending."""
    nothing = object()
    return sorted(key for key in mine.keys() | theirs.keys() if mine.get(key, nothing) != theirs.get(key, nothing))


def key_difference(key: bytes, own: Any, other: Any, names: Names) -> KeyDifference:
    """Both values in the words of the key's contract."""
    contract = names.contract(key[:20]) or "0x" + key[:20].hex()
    name = f"{contract} {names.key(key).name}"
    return KeyDifference(key=key, name=name, own=names.value(key, own), other=names.value(key, other))


# --- who signed what ---


def check_certificate(content: Content, sets: Iterable[ValidatorSet]) -> tuple[ValidatorSet | None, str]:
    """(the set that signed, what is wrong with the certificate). The set is the one that the header names."""
    certificate = content.certificate
    if certificate is None:
        return None, "not certified"
    named = content.header.get("validator_set_hash")
    signers = next((known for known in sets if known.digest == named), None)
    if signers is None:
        return None, "the validator set that the header names is not known here"
    if certificate.digest != content.header_hash:
        return signers, "the certificate is for another header"
    try:
        verify_certificate(
            certificate, validators=signers, chain_id=content.header["chain_id"], verify_signature=_verify
        )
    except PeerFault as error:
        return signers, str(error)
    return signers, ""


def _verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return verify(Scheme.ED25519, public_key, message, signature)


def tally(statements: Mapping[bytes, set[ValidatorId]], certified: Content | None, set_: ValidatorSet) -> list[Signed]:
    """Headers of one height by weight behind them, the heaviest first. `statements`: header hash -> who says it is its
    own; the signatures of a checked certificate count for its header."""
    behind = {digest: set(who) for digest, who in statements.items()}
    if certified is not None and certified.certificate is not None:
        signers = {ValidatorId(entry.validator) for entry in certified.certificate.signatures}
        behind[certified.header_hash] = behind.get(certified.header_hash, set()) | signers
    found = []
    for digest, who in behind.items():
        names = tuple(member.name for member in set_.members if member.id in who)
        proved = certified is not None and digest == certified.header_hash
        entry = Signed(
            header_hash=digest, validators=names, weight=set_.weight(who), total_weight=set_.total_weight,
            quorum=set_.is_quorum(who), source="certificate" if proved else "statements",
        )  # fmt: skip
        found.append(entry)
    return sorted(found, key=lambda entry: (-entry.weight, entry.header_hash))


# --- what lies behind it: executing the height again ---


def run_one_by_one(block: ExecutionInput, state: StateReader, context: ChainContext) -> list[Ran]:
    """Each transaction of a block by itself, in order, on the state before the block."""
    machine, block_state = Machine(context.rule_set), BlockState(BaseState(state))
    of_block = context.block(height=block.height, time_ms=block.time_ms)
    ran: list[Ran] = []
    for position in range(len(block.transactions)):
        call = call_at(block, position)
        receipt, outcome = run_call(machine, block_state, of_block, call)
        writes = settle(outcome, block_state.peek)
        block_state.commit(writes)
        ran.append(Ran(call.hash, call.target, call.method, receipt, dict(writes)))
    return ran


def investigate(
    found: Comparison, mine: Content, theirs: Content, *, replayer: Replayer, progress: Callable[[str], None]
) -> None:
    """Names the transaction, the key and the cause from the node's own folder.

    The state before the height is made again from the write sets of the certified blocks and compared, key by key,
    with the state that the node holds; then the height is executed again on both.

    Raises:
        BadInput, StoreError: blocks on the way are not stored here, or do not hold together.
    """
    stored, context = replayer.stored, replayer.context
    progress("making the state before the height again from certified write sets")
    with (
        tempfile.TemporaryDirectory(prefix="headrace-doctor-") as folder,
        stored.state_before(found.height, Path(folder)) as made,
    ):
        certified, held = StateReader(made.path), StateReader(stored.path / "state")
        try:
            names = Names()
            wrong: list[KeyDifference] = []
            if held.height() == found.height - 1:
                progress("comparing it with the state that the node holds")
                have, should = dict(held.scan(b"")), dict(certified.scan(b""))
                for key in different_keys(have, should):
                    _learn(names, key, certified, context)
                    wrong.append(key_difference(key, have.get(key), should.get(key), names))
            found.wrong_keys = tuple(wrong)
            block = _input(mine, theirs, stored_proposal=stored.proposal)
            again: list[Ran] | None = None
            if block is not None:
                progress("executing the height again, one transaction after the other")
                again = run_one_by_one(block, certified, context)
            _name_key(found, mine, theirs, names, lambda key: _learn(names, key, certified, context))
            own_again = None
            if block is not None and wrong:
                own_again = run_one_by_one(block, held, context)
            _name_transaction(found, mine, theirs, again, own_again, names, certified, context)
            _name_cause(found, theirs, again)
        finally:
            held.close()
            certified.close()


def _input(
    mine: Content, theirs: Content, *, stored_proposal: Callable[[bytes], tuple[bytes, list[bytes]] | None]
) -> ExecutionInput | None:
    """What the height was executed from, if its bodies are here and both executed the same transactions."""
    if not mine.header or mine.hashes != theirs.hashes:
        return None
    proposal = stored_proposal(mine.header["proposal_digest"])
    if proposal is None:
        return None
    executed = set(mine.hashes)
    raws = [raw for raw in proposal[1] if decode_transaction(raw).hash in executed]
    return ExecutionInput.of(height=mine.height, time_ms=mine.header["time_ms"], transactions=raws)


def _learn(names: Names, key: bytes, state: StateReader, context: ChainContext) -> None:
    if not names.contract(key[:20]):
        names.look_up(key, state.get, context.rule_set)


def _name_key(
    found: Comparison, mine: Content, theirs: Content, names: Names, learn: Callable[[bytes], None]
) -> None:
    if mine.writes is None or theirs.writes is None:
        return
    keys = different_keys(mine.writes, theirs.writes)
    found.keys_different = len(keys)
    if keys:
        learn(keys[0])
        found.key = key_difference(keys[0], mine.writes.get(keys[0]), theirs.writes.get(keys[0]), names)


def _name_transaction(
    found: Comparison, mine: Content, theirs: Content, again: Sequence[Ran] | None, own_again: Sequence[Ran] | None,
    names: Names, state: StateReader, context: ChainContext,
) -> None:  # fmt: skip
    """By the two executions where the held state is wrong; else by the first receipt, else by who wrote the keys."""
    receipt = first_receipt(mine, theirs)
    position, exact = None, True
    if again is not None and own_again is not None:
        position = next((at for at, pair in enumerate(zip(own_again, again, strict=True)) if pair[0] != pair[1]), None)
    if position is None and again is not None and mine.writes is not None and theirs.writes is not None:
        different = set(different_keys(mine.writes, theirs.writes))
        writers = [at for at, ran in enumerate(again) if different & ran.writes.keys()]
        position = min([*writers[:1], *([receipt[0]] if receipt else [])], default=None)
        exact = len(writers) <= 1 or (receipt is not None and position == receipt[0])
    if position is None and receipt is not None:
        position = receipt[0]
    if position is None or position >= len(mine.hashes):
        return
    target, method = b"", ""
    if again is not None:
        target, method = again[position].target, again[position].method
        _learn(names, target, state, context)
    same = receipt is not None and receipt[0] == position
    found.transaction = Where(
        position=position, transaction_hash=mine.hashes[position], contract=target,
        contract_name=names.contract(target) if target else "", method=method, exact=exact,
        field=receipt[2] if receipt and same else "", own=receipt[3] if receipt and same else None,
        peer=receipt[4] if receipt and same else None,
    )  # fmt: skip


def _name_cause(found: Comparison, theirs: Content, again: Sequence[Ran] | None) -> None:
    """What the second execution, on the state that the certified blocks make, says."""
    if found.wrong_keys:
        first = found.wrong_keys[0]
        many = f", and {len(found.wrong_keys) - 1} more keys" if len(found.wrong_keys) > 1 else ""
        found.cause = "stored_state"
        found.cause_text = (
            f"the state in this node's folder is wrong at {first.name}: {text_of(first.own)} where the certified "
            f"blocks make it {text_of(first.other)}{many}"
        )
    elif again is not None and theirs.receipts is not None and theirs.writes is not None:
        written: dict[bytes, bytes | None] = {}
        for ran in again:
            written.update(ran.writes)
        equal = tuple(ran.receipt for ran in again) == theirs.receipts and written == theirs.writes
        found.cause = "program"
        found.cause_text = (
            "executed again here, the height comes to the peer's result: the node that diverged ran another program, "
            "or its machine erred"
            if equal
            else "executed again here on a sound state, the height does not come to the peer's result either: this "
            "program differs from the peer's"
        )


# --- over the API only ---


async def name_over_api(found: Comparison, mine: Content, theirs: Content, peer: ApiSide | FolderSide) -> None:
    """The first receipt and the first key, with names from the peer where it has an API."""
    names = Names()
    client = peer.client if isinstance(peer, ApiSide) else None

    async def learn(address: bytes) -> None:
        if client is None or address == SYSTEM_ADDRESS or names.contract(address):
            return
        try:
            genesis = await client.genesis()
            source = (await client.rpc("get_code", target="0x" + address.hex()))["code"]
            compiled = compile_contract(source, genesis.parameters.rule_set)
        except (*CANNOT_LOOK, SyntaxError, ValueError):
            return
        names.learn(address, "0x" + address.hex(), compiled)

    if mine.writes is not None and theirs.writes is not None:
        keys = different_keys(mine.writes, theirs.writes)
        if keys:
            await learn(keys[0][:20])
        _name_key(found, mine, theirs, names, lambda _: None)
    receipt = first_receipt(mine, theirs)
    if receipt is None:
        return
    position, digest, name, own, other = receipt
    target, method = b"", ""
    if client is not None:
        try:
            document = await client.rpc("get_transaction", hash=digest)
            target, method = bytes.fromhex(document["target"][2:]), str(document["method"])
        except CANNOT_LOOK:
            pass
    found.transaction = Where(
        position=position, transaction_hash=digest, contract=target, contract_name="", method=method, exact=False,
        field=name, own=own, peer=other,
    )  # fmt: skip
