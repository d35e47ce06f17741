"""Reading contracts: calls of views, signed reads, dry runs, code and ABI."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from msgspec import Meta

from chain.codec import pack, unpack
from chain.errors import BadInput, DecodeError
from chain.model.signed_read import open_signed_read
from chain.model.signing import decode_transaction
from chain.model.transaction import METHOD_CHARS_MAX
from chain.rpc.definitions import METHODS, Call, HeightNumber, Hex, ReadParams, unhex
from chain.rpc.errors import (
    BAD_SIGNATURE,
    BUSY,
    EXPIRED,
    EXPIRY_TOO_FAR,
    GAS_LIMIT,
    INVALID_PARAMS,
    MALFORMED,
    NOT_FOUND,
    NOT_READY,
    WRONG_CHAIN,
    RpcError,
    invalid_params,
    not_found,
)
from chain.rpc.methods.targets import resolve_target
from chain.rpc.results import AbiResult, AddressResult, CallResult, CodeResult, GasResult, SimulationResult
from chain.rpc.services import QueryResult
from chain.rpc.values import value_from_json
from chain.types import ADDRESS_BYTES

NOBODY: Final = bytes(ADDRESS_BYTES)
GAS_MARGIN_PER_CENT: Final = 25  # state may have moved on when the transaction executes

Target = Annotated[str, Meta(description="Contract: address (0x and 40 hex digits) or name.")]
Method = Annotated[str, Meta(min_length=1, max_length=METHOD_CHARS_MAX)]
Arguments = Annotated[
    Hex | list[Any],
    Meta(description='0x-hex of the packed tuple, or a JSON array of values (see "Contract values").'),
]
Sender = Annotated[Hex | None, Meta(description="Account the contract sees as sender; proves nothing to it.")]
GasLimit = Annotated[HeightNumber | None, Meta(description="null: the most a transaction may use on this chain.")]


class CallView(ReadParams, frozen=True, kw_only=True):
    target: Target
    method: Method
    arguments: Arguments = "0x90"
    sender: Sender = None
    gas_limit: GasLimit = None


class CallSigned(ReadParams, frozen=True, kw_only=True):
    raw: Annotated[Hex, Meta(description='The signed read: canonical bytes (see "Signed reads").')]


class Simulate(ReadParams, frozen=True, kw_only=True):
    raw: Annotated[Hex | None, Meta(description="A transaction; its signature is not checked.")] = None
    target: Annotated[str | None, Meta(description="Without `raw`: contract, address or name.")] = None
    method: Annotated[Method | None, Meta(description="Without `raw`.")] = None
    arguments: Arguments = "0x90"
    sender: Sender = None
    gas_limit: GasLimit = None


class OfContract(ReadParams, frozen=True, kw_only=True):
    target: Target


class ResolveName(ReadParams, frozen=True, kw_only=True):
    name: str


@METHODS.add("call", tag="contracts", errors=(NOT_FOUND, GAS_LIMIT, NOT_READY, BUSY))
async def call_view(call: Call, params: CallView) -> CallResult:
    """Call a view of a contract on the certified state. Nothing is sent to the chain, nothing is written.

    The contract sees `ctx.is_signed` false: whatever `sender` says is a claim. Contracts that must know who reads
    want `call_signed`.
    """
    outcome = await _query(
        call, sender=_sender(params.sender), target=await resolve_target(call, params.target), method=params.method,
        arguments=packed_arguments(params.arguments), gas_limit=_gas_limit(call, params.gas_limit), signed=False,
    )  # fmt: skip
    return CallResult.of(outcome)


@METHODS.add(
    "call_signed", tag="contracts",
    errors=(MALFORMED, WRONG_CHAIN, EXPIRED, EXPIRY_TOO_FAR, BAD_SIGNATURE, GAS_LIMIT, NOT_READY, BUSY),
)  # fmt: skip
async def call_signed(call: Call, params: CallSigned) -> CallResult:
    """Call a view with a signature: the contract sees `ctx.is_signed` true and may trust `ctx.sender`."""
    signed = open_signed_read(unhex(params.raw, "raw"), chain_id=call.services.chain_id(), now=call.api.now())
    body = signed.body
    outcome = await _query(
        call, sender=signed.sender, target=body.target, method=body.method, arguments=body.arguments,
        gas_limit=_gas_limit(call, body.gas_limit), signed=True,
    )  # fmt: skip
    return CallResult.of(outcome)


@METHODS.add("simulate", tag="contracts", errors=(INVALID_PARAMS, NOT_FOUND, MALFORMED, GAS_LIMIT, NOT_READY, BUSY))
async def simulate(call: Call, params: Simulate) -> SimulationResult:
    """Dry run of a transaction on the certified state: what it would answer, emit and write. Nothing is kept."""
    return SimulationResult.of(await _simulate(call, params))


@METHODS.add("estimate_gas", tag="contracts", errors=(INVALID_PARAMS, NOT_FOUND, MALFORMED, GAS_LIMIT, NOT_READY, BUSY))
async def estimate_gas(call: Call, params: Simulate) -> GasResult:
    """Gas a transaction would use now, and a limit with a margin of 25 % for it."""
    outcome = await _simulate(call, params)
    most = call.services.genesis().parameters.transaction_gas_max
    wanted = outcome.gas_used + outcome.gas_used * GAS_MARGIN_PER_CENT // 100 + 1
    return GasResult(
        gas_used=outcome.gas_used, gas_limit=min(wanted, most), status=outcome.status, error=outcome.error,
        height=outcome.height,
    )  # fmt: skip


@METHODS.add("get_code", tag="contracts", errors=(NOT_FOUND, NOT_READY))
async def get_code(call: Call, params: OfContract) -> CodeResult:
    """The source of a contract."""
    address = await resolve_target(call, params.target)
    code = await call.services.code(address)
    if code is None:
        raise not_found(f"no contract at 0x{address.hex()}")
    return CodeResult(address=address, code=code)


@METHODS.add("get_abi", tag="contracts", errors=(NOT_FOUND, NOT_READY))
async def get_abi(call: Call, params: OfContract) -> AbiResult:
    """The interface of a contract: methods, types, events, structs."""
    address = await resolve_target(call, params.target)
    abi = await call.services.abi(address)
    if abi is None:
        raise not_found(f"no contract at 0x{address.hex()}")
    return AbiResult(address=address, abi=json.loads(abi))


@METHODS.add("resolve_name", tag="contracts", errors=(NOT_FOUND, NOT_READY))
async def resolve_name(call: Call, params: ResolveName) -> AddressResult:
    """The address of a contract by its name on the chain."""
    address = await call.services.resolve(params.name)
    if address is None:
        raise not_found(f"no contract is named {params.name!r}")
    return AddressResult(name=params.name, address=address)


def packed_arguments(arguments: str | list[Any]) -> bytes:
    """The packed tuple of arguments given as hex or as JSON.

    Raises:
        RpcError, BadInput: INVALID_PARAMS naming the argument.
    """
    if isinstance(arguments, list):
        return pack(value_from_json(arguments, "arguments"))
    packed = unhex(arguments, "arguments")
    try:
        value = unpack(packed)
    except DecodeError as error:
        raise invalid_params(f"arguments: {error.message}") from None
    if not isinstance(value, tuple):
        raise invalid_params("arguments: must be a packed tuple")
    return packed


async def _simulate(call: Call, params: Simulate) -> QueryResult:
    if params.raw is not None:
        transaction = decode_transaction(unhex(params.raw, "raw"))
        body = transaction.body
        if body.chain_id != call.services.chain_id():
            raise BadInput("wrong_chain", f"signed for chain {body.chain_id.hex()}")
        sender: bytes = transaction.sender
        target, method, arguments = body.target, body.method, body.arguments
        gas_limit = _gas_limit(call, body.gas_limit)
    elif params.target and params.method:
        sender, target = _sender(params.sender), await resolve_target(call, params.target)
        method, arguments = params.method, packed_arguments(params.arguments)
        gas_limit = _gas_limit(call, params.gas_limit)
    else:
        raise invalid_params("give `raw`, or `target` and `method`")
    with call.api.queries:
        outcome = await call.services.simulate(
            sender=sender, target=target, method=method, arguments=arguments, gas_limit=gas_limit
        )
    call.height = outcome.height
    return outcome


async def _query(
    call: Call, *, sender: bytes, target: bytes, method: str, arguments: bytes, gas_limit: int, signed: bool
) -> QueryResult:
    with call.api.queries:
        outcome = await call.services.query(
            sender=sender, target=target, method=method, arguments=arguments, gas_limit=gas_limit, signed=signed
        )
    call.height = outcome.height
    return outcome


def _sender(text: str | None) -> bytes:
    return NOBODY if text is None else unhex(text, "sender", length=ADDRESS_BYTES)


def _gas_limit(call: Call, wanted: int | None) -> int:
    most = call.services.genesis().parameters.transaction_gas_max
    if wanted is None:
        return most
    if not 0 < wanted <= most:
        raise RpcError(GAS_LIMIT, f"gas_limit is {wanted}, must be 1..{most}")
    return wanted
