"""What the state holds about contracts, under the system contract's address."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from chain.codec import pack, unpack_trusted

SYSTEM_ADDRESS: Final = bytes(19) + b"\x01"

_RECORDS: Final = SYSTEM_ADDRESS + b"contracts\x00"
_NAMES: Final = SYSTEM_ADDRESS + b"names\x00"
_SOURCES: Final = SYSTEM_ADDRESS + b"sources\x00"


class Lifecycle(enum.IntEnum):
    ACTIVE = 0
    FROZEN = 1  # views answer, everything else is refused
    ABOLISHED = 2  # for good; the name stays taken, the data stays provable


@dataclass(frozen=True, slots=True)
class ContractRecord:
    """The stored record of one contract. `version` counts upgrades from 1."""

    name: str
    code_hash: bytes
    admin: bytes
    lifecycle: int
    version: int
    deployed_height: int
    changed_height: int

    @staticmethod
    def of(raw: bytes) -> ContractRecord:
        return ContractRecord(*unpack_trusted(raw))  # type: ignore[misc]

    def as_tuple(self) -> tuple[str, bytes, bytes, int, int, int, int]:
        return (
            self.name,
            self.code_hash,
            self.admin,
            self.lifecycle,
            self.version,
            self.deployed_height,
            self.changed_height,
        )

    def to_bytes(self) -> bytes:
        return pack(self.as_tuple())


def record_key(address: bytes) -> bytes:
    return _RECORDS + pack(address)


def name_key(name: str) -> bytes:
    return _NAMES + pack(name)


def source_key(code_hash: bytes) -> bytes:
    return _SOURCES + pack(code_hash)
