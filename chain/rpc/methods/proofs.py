"""Proofs that a third party checks without a node."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chain.rpc.definitions import METHODS, Call, HeightNumber, Hex, ReadParams, unhex, unhex_hash
from chain.rpc.errors import INVALID_PARAMS, NOT_FOUND, NOT_READY, PRUNED, invalid_params, not_found
from chain.rpc.methods.targets import resolve_target
from chain.rpc.results import ProofResult
from chain.rpc.state_keys import entry_key, item_key
from chain.rpc.values import value_from_json
from contracts.language.limits import KEY_BYTES_MAX


class GetReceiptProof(ReadParams, frozen=True, kw_only=True):
    hash: Annotated[Hex, Meta(description="Transaction hash, 32 bytes.")]


class GetValueProof(ReadParams, frozen=True, kw_only=True):
    state_key: Annotated[Hex | None, Meta(description="The raw state key, instead of the fields below.")] = None
    target: Annotated[str | None, Meta(description="Contract: address or name.")] = None
    variable: Annotated[str | None, Meta(description="Storage variable of the contract.")] = None
    key: Annotated[
        list[Any],
        Meta(description='Of a Map: the elements of its key (see "Contract values"), one for a key that is no tuple.'),
    ] = msgspec.field(default_factory=list)
    index: Annotated[HeightNumber | None, Meta(description="Of a List: the index.")] = None
    height: Annotated[HeightNumber | None, Meta(description="The value after this block; null: the certified one.")] = (
        None
    )


@METHODS.add("get_receipt_proof", tag="proofs", errors=(NOT_FOUND, PRUNED, NOT_READY))
async def get_receipt_proof(call: Call, params: GetReceiptProof) -> ProofResult:
    """Proof that a transaction executed and gave its receipt, down to validators' signatures."""
    proof = await call.services.receipt_proof(unhex_hash(params.hash))
    if proof is None:
        raise not_found(f"no certified receipt of {params.hash} is known here")
    return ProofResult(proof=proof)


@METHODS.add("get_value_proof", tag="proofs", errors=(INVALID_PARAMS, NOT_FOUND, PRUNED, NOT_READY))
async def get_value_proof(call: Call, params: GetValueProof) -> ProofResult:
    """Proof of the value that a storage variable of a contract had after a block, or that it had none."""
    if params.state_key is not None:
        key = unhex(params.state_key, "state_key")
    elif params.target is not None and params.variable:
        address = await resolve_target(call, params.target)
        key = _state_key(address, params)
    else:
        raise invalid_params("give `state_key`, or `target` and `variable`")
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise invalid_params(f"a state key of {len(key)} bytes, must be 1..{KEY_BYTES_MAX}")
    if params.height is not None and params.height > call.height:
        raise not_found(f"no block {params.height} is certified here, the highest is {call.height}")
    proof = await call.services.value_proof(key=key, height=params.height)
    if proof is None:
        raise not_found("no proof of that key at that height can be given here")
    return ProofResult(proof=proof)


def _state_key(address: bytes, params: GetValueProof) -> bytes:
    variable = params.variable or ""
    if params.index is not None:
        return item_key(address, variable, params.index)
    return entry_key(
        address, variable, [value_from_json(part, f"key[{at}]") for at, part in enumerate(params.key)]
    )
