"""Makes a failing case small: fewer blocks, fewer transactions, as long as it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from chain.codec import unpack
from chain.crypto import address_of
from chain.errors import DecodeError
from chain.model.transaction import decode_body, split_transaction
from tests.blocks.generator import Case
from tests.blocks.worlds import ACCOUNTS, World, account

TRIALS_MAX: Final = 400


def shrunk(case: Case, problem_of: Callable[[Case], str]) -> Case:
    """A case of the same world that still has a problem, from which nothing was found that could go."""
    trials = 0
    changed = True
    while changed and trials < TRIALS_MAX:
        changed = False
        for smaller in _smaller(case):
            trials += 1
            if problem_of(smaller):
                case, changed = smaller, True
                break
            if trials >= TRIALS_MAX:
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    blocks = case.blocks
    for index in range(len(blocks) - 1, -1, -1):
        if len(blocks) > 1:
            yield case.only([*blocks[:index], *blocks[index + 1 :]])
    for index, block in enumerate(blocks):
        size = len(block) // 2
        while size:
            for at in range(0, len(block), size):
                rest = block[:at] + block[at + size :]
                yield case.only([*blocks[:index], rest, *blocks[index + 1 :]])
            size //= 2


def describe(case: Case) -> list[list[str]]:
    """Each transaction as a line."""
    return [[line_of(case.world, raw) for raw in block] for block in case.blocks]


def line_of(world: World, raw: bytes) -> str:
    """`account 3 -> arena 1 bump(2, 5)`, with names where they are known."""
    body = decode_body(split_transaction(raw)[0])
    names: dict[bytes, str] = {account(number).address: f"account {number}" for number in range(ACCOUNTS)}
    names |= {key.address: name for name, key in world.signers.items()}
    names |= {address: f"arena {number}" for number, address in enumerate(world.arenas)}
    names |= {address: f"token {number}" for number, address in enumerate(world.tokens)}
    names |= {address: name for name, address in world.contracts.items()}
    try:
        arguments = unpack(body.arguments)
    except DecodeError:
        arguments = body.arguments

    def show(value: object) -> str:
        if isinstance(value, tuple):
            return "(" + ", ".join(show(item) for item in value) + ")"
        if isinstance(value, bytes) and len(value) == 20:
            return names.get(value, value.hex())
        if isinstance(value, str) and len(value) > 40:
            return repr(value[:37] + "...")
        return repr(value)

    sender = address_of(body.scheme, body.public_key)
    gas = f" gas {body.gas_limit}" if body.gas_limit < 200_000 else ""
    return f"{show(sender)} -> {show(body.target)} {body.method}{show(arguments)}{gas}"
