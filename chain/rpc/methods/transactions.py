"""Sending transactions and following what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta

from chain.rpc.definitions import METHODS, Call, Hex, Milliseconds, Params, ReadParams, unhex, unhex_hash
from chain.rpc.errors import (
    BAD_SIGNATURE,
    BUSY,
    DUPLICATE,
    EXPIRED,
    EXPIRY_TOO_FAR,
    GAS_LIMIT,
    HALTED,
    MALFORMED,
    NOT_FOUND,
    NOT_READY,
    NUMBERS,
    POOL_FULL,
    SENDER_LIMIT,
    TIMEOUT,
    TOO_LARGE,
    WRONG_CHAIN,
    RpcError,
    not_found,
)
from chain.rpc.results import ReceiptResult, SentItem, SentManyResult, SentResult, StateResult, TransactionResult
from chain.rpc.services import SubmitResult, TransactionState, TransactionStatus, WaitLevel

SEND_TIMEOUT_MS: Final = 10_000
_REFUSALS: Final = (
    MALFORMED, BAD_SIGNATURE, DUPLICATE, EXPIRED, EXPIRY_TOO_FAR, WRONG_CHAIN, GAS_LIMIT, POOL_FULL, SENDER_LIMIT,
    NOT_READY, HALTED,
)  # fmt: skip
_RANKS: Final = {
    TransactionState.PENDING: 1,
    TransactionState.ORDERED: 2,
    TransactionState.CERTIFIED: 3,
}
_LEVEL_RANKS: Final[dict[WaitLevel, int]] = {"accepted": 1, "ordered": 2, "certified": 3}

Wait = Annotated[
    Literal["accepted", "ordered", "certified"],
    Meta(description="`accepted`: in the pool. `ordered`: position fixed. `certified`: final, with its receipt."),
]
HashHex = Annotated[Hex, Meta(description="Transaction hash, 32 bytes.")]


class SendTransaction(Params, frozen=True, kw_only=True):
    raw: Annotated[Hex, Meta(description="The signed transaction: canonical bytes.")]
    wait: Wait = "accepted"
    timeout_ms: Annotated[Milliseconds, Meta(description="Longest wait; the server grants at most a minute.")] = (
        SEND_TIMEOUT_MS
    )


class SendTransactions(Params, frozen=True, kw_only=True):
    raws: Annotated[list[Hex], Meta(description="Signed transactions.")]


class WaitTransaction(Params, frozen=True, kw_only=True):
    hash: HashHex
    wait: Wait = "certified"
    timeout_ms: Annotated[Milliseconds, Meta(description="Longest wait; 0 answers at once.")] = 0


class GetTransaction(ReadParams, frozen=True, kw_only=True):
    hash: HashHex


class GetReceipt(ReadParams, frozen=True, kw_only=True):
    hash: HashHex
    timeout_ms: Annotated[Milliseconds, Meta(description="Wait so long for it to be certified; 0: do not.")] = 0


@METHODS.add("send_transaction", tag="transactions", errors=(*_REFUSALS, TIMEOUT, BUSY), waits=True)
async def send_transaction(call: Call, params: SendTransaction) -> SentResult:
    """Send a signed transaction and, if asked, wait for what becomes of it.

    Sending the same bytes again is harmless: the second time is the error `duplicate`, whose data has the hash. A
    `timeout` error has the hash too: the transaction is on its way, `get_receipt` tells its fate.
    """
    (result,) = await call.services.submit([unhex(params.raw, "raw")])
    if result.error:
        raise RpcError.coded(result.error, result.message, {"hash": "0x" + result.hash.hex()} if result.hash else None)
    if params.wait == "accepted":
        return SentResult(hash=result.hash, state=TransactionState.PENDING)
    status = await _wait(call, result.hash, params.wait, params.timeout_ms)
    _require_level(status, result.hash, params.wait)
    return SentResult(
        hash=result.hash, state=status.state, height=status.height, position=status.position, receipt=_receipt(status)
    )


@METHODS.add("send_transactions", tag="transactions", errors=(TOO_LARGE,))
async def send_transactions(call: Call, params: SendTransactions) -> SentManyResult:
    """Send many signed transactions at once: cheaper than one by one. Each is accepted or refused by itself.

    For more volume still, POST the packed array of raw transactions to /transactions (see "Binary volume path").
    """
    return await send_many(call, [unhex(raw, f"raws[{at}]") for at, raw in enumerate(params.raws)])


@METHODS.add("wait_transaction", tag="transactions", errors=(BUSY,), waits=True)
async def wait_transaction(call: Call, params: WaitTransaction) -> StateResult:
    """Where a transaction is: unknown, pending, ordered, certified or expired. Running out of time is no error."""
    tx_hash = unhex_hash(params.hash)
    status = await _wait(call, tx_hash, params.wait, params.timeout_ms)
    return StateResult(hash=tx_hash, state=status.state, height=status.height, position=status.position)


@METHODS.add("get_transaction", tag="transactions", errors=(NOT_FOUND, NOT_READY))
async def get_transaction(call: Call, params: GetTransaction) -> TransactionResult:
    """A transaction with all its fields, certified or still in the pool."""
    tx_hash = unhex_hash(params.hash)
    location = await call.services.transaction(tx_hash)
    if location is None:
        raise not_found(f"no transaction {params.hash} is certified or in this node's pool")
    state = TransactionState.CERTIFIED
    if location.height is None:
        state = (await call.services.wait_transaction(tx_hash, "accepted", 0)).state
    call.speaks_for(location.height)
    return TransactionResult.of(location.raw, state=state, height=location.height, position=location.position)


@METHODS.add("get_receipt", tag="transactions", errors=(NOT_FOUND, EXPIRED, TIMEOUT, NOT_READY, BUSY), waits=True)
async def get_receipt(call: Call, params: GetReceipt) -> ReceiptResult:
    """The certified receipt of a transaction.

    `not_found`: this node has never seen the transaction. `timeout`: seen, not certified yet; `data.state` says how
    far it is. `expired`: it can never execute any more.
    """
    tx_hash = unhex_hash(params.hash)
    status = await _wait(call, tx_hash, "certified", params.timeout_ms)
    if status.state == TransactionState.UNKNOWN:
        raise not_found(f"no transaction {params.hash} is certified or in this node's pool")
    _require_level(status, tx_hash, "certified")
    receipt = _receipt(status)
    if receipt is None:
        raise not_found(f"no receipt of {params.hash} is kept here")
    return receipt


async def send_many(call: Call, raws: list[bytes]) -> SentManyResult:
    """Submit a batch. Raises RpcError: TOO_LARGE: more than the limit."""
    results = await submit_many(call, raws)
    items = [SentItem(hash=one.hash, code=code_of(one), message=one.message) for one in results]
    return SentManyResult(accepted=sum(item.code == 0 for item in items), results=items)


async def submit_many(call: Call, raws: list[bytes]) -> Sequence[SubmitResult]:
    """Submit a batch; shared by `send_transactions` and POST /transactions.

    Raises:
        RpcError: TOO_LARGE: more than the limit.
    """
    if len(raws) > call.limits.transactions_max:
        raise RpcError(TOO_LARGE, f"{len(raws)} transactions at once, at most {call.limits.transactions_max}")
    return await call.services.submit(raws) if raws else []


def code_of(result: SubmitResult) -> int:
    """0: accepted."""
    return NUMBERS.get(result.error, MALFORMED) if result.error else 0


async def _wait(call: Call, tx_hash: bytes, level: WaitLevel, timeout_ms: int) -> TransactionStatus:
    granted = call.timeout_ms(timeout_ms)
    if granted == 0:
        status = await call.services.wait_transaction(tx_hash, level, 0)
    else:
        with call.api.waits:
            status = await call.services.wait_transaction(tx_hash, level, granted)
    if status.state == TransactionState.CERTIFIED:
        call.speaks_for(status.height)
    return status


def _require_level(status: TransactionStatus, tx_hash: bytes, level: WaitLevel) -> None:
    data = {"hash": "0x" + tx_hash.hex(), "state": str(status.state)}
    if status.state == TransactionState.EXPIRED:
        raise RpcError(EXPIRED, "the transaction was not executed before its expiry and never will be", data)
    if _RANKS.get(status.state, 0) < _LEVEL_RANKS[level]:
        raise RpcError(TIMEOUT, f"the transaction is {status.state}, not {level} yet; ask again by its hash", data)


def _receipt(status: TransactionStatus) -> ReceiptResult | None:
    if status.receipt is None:
        return None
    return ReceiptResult.of(status.receipt, height=status.height, position=status.position)



