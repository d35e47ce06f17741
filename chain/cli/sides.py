"""Two ways to look at what a node has at a height, for `headrace doctor`: its data folder, and its API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chain.client import Client, NodesUnreachable, RpcFailed
from chain.codec import decode
from chain.errors import BadInput, DecodeError, StoreError
from chain.model.block import Certificate, Header, decode_header, header_hash
from chain.model.merkle import unpack_writes
from chain.store import StoredChain

CANNOT_LOOK = (NodesUnreachable, RpcFailed, StoreError, BadInput)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one node has at a height: a certified block, or what it had executed when it stopped voting.

    `receipts` and `writes` are None where the node never executed the height.
    """

    height: int
    header_hash: bytes
    header: Mapping[str, Any]  # fields by name; empty where only the hash is known
    hashes: tuple[bytes, ...]
    receipts: tuple[bytes, ...] | None
    writes: dict[bytes, bytes | None] | None
    certificate: Certificate | None


class Side(Protocol):
    """A node that can be asked."""

    name: str

    async def height(self) -> int:
        """The highest certified block it has."""
        ...

    async def divergence(self) -> dict[str, Any] | None:
        """Its divergence.json, if it stopped voting."""
        ...

    async def hash_at(self, height: int) -> bytes:
        """The hash of its certified header. Raises one of `CANNOT_LOOK`."""
        ...

    async def block(self, height: int) -> Content:
        """A certified block of it. Raises one of `CANNOT_LOOK`."""
        ...


class FolderSide:
    """A node by its data folder, running or not. `report` is its divergence.json."""

    def __init__(self, name: str, stored: StoredChain, report: dict[str, Any] | None) -> None:
        self.name = name
        self._blocks = stored.blocks
        self._report = report

    async def height(self) -> int:
        return self._blocks.height()

    async def divergence(self) -> dict[str, Any] | None:
        return self._report

    async def hash_at(self, height: int) -> bytes:
        raw = self._blocks.header(height)
        if raw is None:
            raise BadInput("not_found", f"{self.name} has no block {height}")
        return header_hash(decode_header(raw))

    async def block(self, height: int) -> Content:
        block = self._blocks.block(height)
        if block is None:
            raise BadInput("not_found", f"{self.name} has no block {height}")
        return Content(
            height=height,
            header_hash=header_hash(decode_header(block.header)),
            header=_fields(decode_header(block.header)),
            hashes=_split(block.hashes),
            receipts=tuple(block.receipts),
            writes=dict(unpack_writes(block.writes)),
            certificate=decode(Certificate, block.certificate) if block.certificate else None,
        )


class ApiSide:
    """A node by its API."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client

    async def height(self) -> int:
        return int((await self.client.status())["certified_height"])

    async def divergence(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = (await self.client.rpc("get_divergence"))["divergence"]
        return found

    async def hash_at(self, height: int) -> bytes:
        return _unhex((await self.client.rpc("get_header", height=height))["hash"])

    async def block(self, height: int) -> Content:
        block = await self.client.rpc("get_block", height=height, full=True)
        writes = await self.client.rpc("get_write_set", height=height)
        header = decode_header(_unhex(block["header"]["raw"]))
        certificate = block["certificate"]
        return Content(
            height=height,
            header_hash=header_hash(header),
            header=_fields(header),
            hashes=tuple(_unhex(item) for item in block["transactions"]),
            receipts=tuple(_unhex(receipt["raw"]) for receipt in block["receipts"]),
            writes=dict(unpack_writes(_unhex(writes["writes"]))),
            certificate=None if certificate is None else decode(Certificate, _unhex(certificate["raw"])),
        )


def diverged_content(report: Mapping[str, Any]) -> Content:
    """What a divergence.json says that the node had at the height.

    Raises:
        StoreError: it is damaged.
    """
    try:
        executed = "own_header" in report
        transactions = report.get("transactions", ())
        return Content(
            height=int(report["height"]),
            header_hash=bytes.fromhex(report["own_header_hash"]),
            header=_fields_of_report(report["own_header"]) if executed else {},
            hashes=tuple(bytes.fromhex(item["hash"]) for item in transactions),
            receipts=tuple(bytes.fromhex(item["receipt"]) for item in transactions) if executed else None,
            writes=dict(unpack_writes(bytes.fromhex(report["writes"]))) if executed else None,
            certificate=None,
        )
    except (KeyError, TypeError, ValueError, DecodeError) as error:
        raise StoreError(f"the divergence report is damaged: {error!r}") from None


def _fields(header: Header) -> dict[str, Any]:
    return {name: getattr(header, name) for name in Header.__struct_fields__}


def _fields_of_report(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in fields.items()}


def _split(blob: bytes) -> tuple[bytes, ...]:
    return tuple(blob[at : at + 32] for at in range(0, len(blob), 32))


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])
