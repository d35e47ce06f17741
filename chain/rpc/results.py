"""What the methods answer. Every answer has `certified_height` besides: it speaks for all blocks up to there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chain.codec import decode, unpack, unpack_trusted
from chain.errors import DecodeError
from chain.model.block import Certificate, Event, Header, Proposal, Receipt, decode_header, header_hash
from chain.model.signing import decode_transaction
from chain.rpc.services import (
    EventItem,
    HeightExecution,
    HeightStages,
    PeerView,
    QueryResult,
    Shown,
    TransactionState,
)
from chain.rpc.values import value_to_json
from chain.types import DIGEST_BYTES


def _values(packed: bytes) -> Any:
    return value_to_json(unpack_trusted(packed)) if packed else None


class EventResult(Shown, frozen=True, kw_only=True):
    """`values` is the packed tuple, `decoded` its JSON form (see "Contract values")."""

    contract: bytes
    name: str
    values: bytes
    decoded: Any

    @classmethod
    def of(cls, event: Event) -> EventResult:
        return cls(contract=event.contract, name=event.name, values=event.values, decoded=_values(event.values))


class ReceiptResult(Shown, frozen=True, kw_only=True):
    """`status` 0 is success. `result` is the packed return value, `decoded` its JSON form.

    `raw` is the canonical encoding of the receipt, which the block's receipt root covers.
    """

    transaction_hash: bytes
    height: int | None
    position: int | None
    status: int
    gas_used: int
    result: bytes
    decoded: Any
    error: str
    events: tuple[EventResult, ...]
    raw: bytes

    @classmethod
    def of(cls, raw: bytes, *, height: int | None, position: int | None) -> ReceiptResult:
        receipt = decode(Receipt, raw)
        return cls(
            transaction_hash=receipt.transaction_hash, height=height, position=position, status=receipt.status,
            gas_used=receipt.gas_used, result=receipt.result, decoded=_values(receipt.result), error=receipt.error,
            events=tuple(EventResult.of(event) for event in receipt.events), raw=raw,
        )  # fmt: skip


class SentResult(Shown, frozen=True, kw_only=True):
    """`receipt` is there when the wait was for certified."""

    hash: bytes
    state: TransactionState
    height: int | None = None
    position: int | None = None
    receipt: ReceiptResult | None = None


class SentItem(Shown, frozen=True, kw_only=True):
    """`code` 0: in the pool; else the number of an error and its text. `hash` is empty if nothing could be decoded."""

    hash: bytes
    code: int = 0
    message: str = ""


class SentManyResult(Shown, frozen=True, kw_only=True):
    accepted: int
    results: list[SentItem]  # one each, in the order given


class StateResult(Shown, frozen=True, kw_only=True):
    hash: bytes
    state: TransactionState
    height: int | None
    position: int | None


class TransactionResult(Shown, frozen=True, kw_only=True):
    hash: bytes
    state: TransactionState
    height: int | None
    position: int | None
    sender: bytes
    scheme: int
    public_key: bytes
    nonce: bytes
    expiry: int
    target: bytes
    method: str
    arguments: bytes
    decoded: Any  # the arguments' JSON form
    gas_limit: int
    signature: bytes
    raw: bytes

    @classmethod
    def of(
        cls, raw: bytes, *, state: TransactionState, height: int | None, position: int | None
    ) -> TransactionResult:
        transaction = decode_transaction(raw)
        body = transaction.body
        return cls(
            hash=transaction.hash, state=state, height=height, position=position, sender=transaction.sender,
            scheme=body.scheme, public_key=body.public_key, nonce=body.nonce, expiry=body.expiry, target=body.target,
            method=body.method, arguments=body.arguments, decoded=_packed_by_caller(body.arguments),
            gas_limit=body.gas_limit, signature=transaction.signature, raw=raw,
        )  # fmt: skip


class CallResult(Shown, frozen=True, kw_only=True):
    """`status` 0 is success, else `error` says why. The read saw the state after block `height`."""

    status: int
    gas_used: int
    result: bytes
    decoded: Any
    error: str
    events: tuple[EventResult, ...]
    height: int

    @classmethod
    def of(cls, outcome: QueryResult, decoded: Any = None) -> CallResult:
        return cls(**_outcome_fields(outcome, decoded))


class WriteResult(Shown, frozen=True, kw_only=True):
    """A state key and its packed value; null deletes."""

    key: bytes
    value: bytes | None


class SimulationResult(Shown, frozen=True, kw_only=True):
    """A dry run on the state after block `height`: what would have happened and been written. Nothing was."""

    status: int
    gas_used: int
    result: bytes
    decoded: Any
    error: str
    events: tuple[EventResult, ...]
    height: int
    writes: tuple[WriteResult, ...]

    @classmethod
    def of(cls, outcome: QueryResult) -> SimulationResult:
        writes = tuple(WriteResult(key=key, value=value) for key, value in outcome.writes)
        return cls(**_outcome_fields(outcome, None), writes=writes)


class GasResult(Shown, frozen=True, kw_only=True):
    """`gas_limit` is `gas_used` with a margin, within the chain's limit. With a `status` not 0 it means little."""

    gas_used: int
    gas_limit: int
    status: int
    error: str
    height: int


class HeaderResult(Shown, frozen=True, kw_only=True):
    """The executed header. `raw` is its canonical encoding, `hash` what validators signed."""

    hash: bytes
    chain_id: bytes
    height: int
    time_ms: int
    parent_hash: bytes
    proposal_digest: bytes
    rule_set: int
    validator_set_hash: bytes
    transaction_count: int
    transaction_root: bytes
    receipt_root: bytes
    state_root: bytes
    gas_used: int
    snapshot_root: bytes  # empty but at commit heights
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> HeaderResult:
        header = decode_header(raw)
        fields = {name: getattr(header, name) for name in Header.__struct_fields__}
        return cls(hash=header_hash(header), raw=raw, **fields)


class SignatureResult(Shown, frozen=True, kw_only=True):
    validator: bytes
    signature: bytes


class CertificateResult(Shown, frozen=True, kw_only=True):
    """A quorum of distinct signatures on `digest`; `raw` is the canonical encoding."""

    kind: int
    view: int
    height: int
    digest: bytes
    signatures: tuple[SignatureResult, ...]
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> CertificateResult:
        certificate = decode(Certificate, raw)
        signatures = tuple(
            SignatureResult(validator=item.validator, signature=item.signature) for item in certificate.signatures
        )
        return cls(
            kind=certificate.kind, view=certificate.view, height=certificate.height, digest=certificate.digest,
            signatures=signatures, raw=raw,
        )  # fmt: skip


class BlockResult(Shown, frozen=True, kw_only=True):
    """`transactions` are the hashes of the executed ones in block order, `statuses` and `receipts` go with them.

    Genesis (height 0) has no certificate. An empty gap block has a proposer of zeros and timestamp 0.
    """

    header: HeaderResult
    certificate: CertificateResult | None
    proposer: bytes
    timestamp_ms: int
    transactions: tuple[bytes, ...]
    statuses: tuple[int, ...]
    receipts: tuple[ReceiptResult, ...] | None = None

    @classmethod
    def of(
        cls, header_raw: bytes, certificate: bytes | None, proposal_raw: bytes | None, hashes: bytes,
        receipts: Sequence[bytes], *, full: bool,
    ) -> BlockResult:  # fmt: skip
        header = HeaderResult.of(header_raw)
        proposal = decode(Proposal, proposal_raw) if proposal_raw else None
        items = [
            ReceiptResult.of(raw, height=header.height, position=position) for position, raw in enumerate(receipts)
        ]
        return cls(
            header=header, certificate=CertificateResult.of(certificate) if certificate else None,
            proposer=proposal.proposer if proposal else b"", timestamp_ms=proposal.timestamp_ms if proposal else 0,
            transactions=split_hashes(hashes), statuses=tuple(item.status for item in items),
            receipts=tuple(items) if full else None,
        )  # fmt: skip


class OutcomeResult(Shown, frozen=True, kw_only=True):
    """Concatenated 32-byte hashes of the executed transactions, and a status each."""

    height: int
    hashes: bytes
    statuses: tuple[int, ...]


class BlocksResult(Shown, frozen=True, kw_only=True):
    """Ask again with `next_height`."""

    blocks: list[OutcomeResult]
    next_height: int


class FoundEvent(Shown, frozen=True, kw_only=True):
    height: int
    position: int
    index: int
    transaction_hash: bytes
    contract: bytes
    name: str
    values: bytes
    decoded: Any

    @classmethod
    def of(cls, item: EventItem) -> FoundEvent:
        return cls(
            height=item.height, position=item.position, index=item.index, transaction_hash=item.transaction_hash,
            contract=item.contract, name=item.name, values=item.values, decoded=_values(item.values),
        )  # fmt: skip


class EventsResult(Shown, frozen=True, kw_only=True):
    """Ascending; `next_height` is where to go on, null when everything asked for was given."""

    events: tuple[FoundEvent, ...]
    next_height: int | None


class CodeResult(Shown, frozen=True, kw_only=True):
    address: bytes
    code: str


class AbiResult(Shown, frozen=True, kw_only=True):
    address: bytes
    abi: Any


class AddressResult(Shown, frozen=True, kw_only=True):
    name: str
    address: bytes


class PeersResult(Shown, frozen=True, kw_only=True):
    peers: list[PeerView]


class StagesResult(Shown, frozen=True, kw_only=True):
    heights: list[HeightStages]


class ExecutionsResult(Shown, frozen=True, kw_only=True):
    """Ascending. A height that is missing was executed before this node's start, or too long ago."""

    heights: list[HeightExecution]


class GenesisResult(Shown, frozen=True, kw_only=True):
    """`genesis` is the contents of genesis.json."""

    chain_id: bytes
    genesis: Any


class ProofResult(Shown, frozen=True, kw_only=True):
    """Save `proof` as it is: `headrace verify-proof` checks it without a node."""

    proof: Any


class DiscoverResult(Shown, frozen=True, kw_only=True):
    """An OpenRPC document."""

    openrpc: str
    info: Any
    methods: Any
    components: Any


def split_hashes(blob: bytes) -> tuple[bytes, ...]:
    return tuple(blob[at : at + DIGEST_BYTES] for at in range(0, len(blob), DIGEST_BYTES))


def _outcome_fields(outcome: QueryResult, decoded: Any) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "gas_used": outcome.gas_used,
        "result": outcome.result,
        "decoded": _values(outcome.result) if decoded is None else decoded,
        "error": outcome.error,
        "events": tuple(EventResult.of(event) for event in outcome.events),
        "height": outcome.height,
    }


def _packed_by_caller(packed: bytes) -> Any:
    """The JSON form of arguments, null where the sender sent what is no value at all (it failed for that)."""
    try:
        return value_to_json(unpack(packed))
    except DecodeError:
        return None
