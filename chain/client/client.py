"""A client of the chain: signs locally, follows transactions to their end, survives nodes that go away."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from chain.client.abi import Abi, parse_abi
from chain.client.errors import (
    DUPLICATE,
    EXPIRED,
    NOT_FOUND,
    POOL_FULL,
    TIMEOUT,
    CallFailed,
    NodesUnreachable,
    RpcFailed,
    TransactionExpired,
    TransactionFailed,
    TransactionPending,
    TransactionRefused,
)
from chain.client.receipts import ContractEvent, Outcome, Receipt, SendResult, receipt_of, unhex, value_of
from chain.client.transport import GRACE_MS, Transport
from chain.codec import Value, encode, pack
from chain.crypto import PrivateKey
from chain.errors import BadInput
from chain.model.genesis import Genesis
from chain.model.genesis_json import genesis_from_json
from chain.model.signed_read import sign_read
from chain.model.signing import sign_transaction
from chain.model.transaction import Transaction
from chain.types import ADDRESS_BYTES, DIGEST_BYTES, Address, Digest, Height, Instant
from contracts.system import SYSTEM_ABI, SYSTEM_ADDRESS

DEFAULT_TIMEOUT_MS: Final = 30_000
DEFAULT_GAS_LIMIT: Final = 5_000_000  # a full block of such transactions fits the default block's gas
HEIGHT_FRESH_S: Final = 1.0
WAIT_MS_MAX: Final = 10_000  # of one request that waits; longer waits ask again
SIGNED_READ_MS: Final = 60_000
POLL_BLOCKS: Final = 100
RESEND_PAUSE_S: Final = 0.2


class Client:
    """Use as `async with Client(urls, key=key) as client`. One event loop; any number of tasks.

    Reads never go back in time: an answer speaks at least for the highest height this client has seen, whichever node
    gives it.
    """

    def __init__(
        self, urls: str | Sequence[str], *, key: PrivateKey | None = None, timeout_ms: int = DEFAULT_TIMEOUT_MS,
        retry_ms: int | None = None,
    ) -> None:  # fmt: skip
        """`timeout_ms` for anything asked; when no node answers, give up after `retry_ms` already, if given."""
        nodes = [urls] if isinstance(urls, str) else urls
        self._transport = Transport(nodes, timeout_ms=timeout_ms, retry_ms=retry_ms)
        self._timeout_ms = timeout_ms
        self.key = key
        self.height = Height(0)  # the highest certified height seen
        self._height_seen_s = -HEIGHT_FRESH_S
        self._genesis: Genesis | None = None
        self._chain_id = b""
        self._addresses: dict[str, Address] = {}
        self._abis: dict[Address, Abi] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    @property
    def url(self) -> str:
        """The node asked at present."""
        return self._transport.url

    # --- asking ---

    async def rpc(
        self, method: str, /, *, within_ms: int | None = None, attempt_ms: int | None = None, **params: Any
    ) -> dict[str, Any]:
        """Any method of the API with its parameters; bytes may be given as bytes.

        One node is given `attempt_ms` to answer, all of them together `within_ms`.

        Raises:
            RpcFailed, NodesUnreachable.
        """
        plain = {name: _hex(value) if isinstance(value, bytes) else value for name, value in params.items()}
        result = await self._transport.call(method, plain, timeout_ms=within_ms, attempt_ms=attempt_ms)
        self._saw(result.get("certified_height", 0))
        return result

    def _saw(self, height: int) -> None:
        if height >= self.height:
            self.height = Height(height)
            self._height_seen_s = time.monotonic()

    async def status(self) -> dict[str, Any]:
        return await self.rpc("status")

    async def genesis(self) -> Genesis:
        """The chain's genesis, asked once."""
        if self._genesis is None:
            answer = await self.rpc("get_genesis")
            self._genesis = genesis_from_json(answer["genesis"])
            self._chain_id = unhex(answer["chain_id"])
        return self._genesis

    async def chain_id(self) -> bytes:
        await self.genesis()
        return self._chain_id

    async def address(self, target: str | bytes) -> Address:
        """The address of a contract given by name, by 0x-hex or as it is. Raises RpcFailed (not_found)."""
        if isinstance(target, bytes):
            if len(target) != ADDRESS_BYTES:
                raise BadInput("invalid_params", f"target: {len(target)} bytes, must be {ADDRESS_BYTES}")
            return Address(target)
        if target.startswith("0x"):
            return await self.address(_address_bytes(target))
        known = self._addresses.get(target)
        if known is None:
            answer = await self.rpc("resolve_name", name=target, min_height=self.height)
            known = self._addresses[target] = Address(unhex(answer["address"]))
        return known

    async def abi(self, target: str | bytes, *, refresh: bool = False) -> Abi:
        """The ABI of a contract, asked once (a contract upgraded meanwhile: `refresh`)."""
        address = await self.address(target)
        known = None if refresh else self._abis.get(address)
        if known is None and address == SYSTEM_ADDRESS:
            known = self._abis[address] = parse_abi(json.loads(SYSTEM_ABI))
        if known is None:
            answer = await self.rpc("get_abi", target=_hex(address), min_height=self.height)
            known = self._abis[address] = parse_abi(answer["abi"])
        return known

    # --- reading contracts ---

    async def call(
        self, target: str | bytes, method: str, *arguments: Value, sender: bytes | None = None,
        gas_limit: int | None = None,
    ) -> Value:  # fmt: skip
        """What a view returns, unsigned: the contract knows that `sender` is a mere claim.

        Raises:
            CallFailed: the contract refused.
        """
        answer = await self.rpc(
            "call", target=await self.address(target), method=method, arguments=pack(arguments), sender=sender,
            gas_limit=gas_limit, min_height=self.height,
        )  # fmt: skip
        return _call_value(method, answer)

    async def signed_call(
        self, target: str | bytes, method: str, *arguments: Value, key: PrivateKey | None = None,
        gas_limit: int | None = None,
    ) -> Value:  # fmt: skip
        """What a view returns to this account, which a signature proves.

        Raises:
            CallFailed: the contract refused.
        """
        genesis = await self.genesis()
        raw = sign_read(
            self._signer(key), chain_id=self._chain_id, target=await self.address(target), method=method,
            arguments=arguments, gas_limit=gas_limit or genesis.parameters.transaction_gas_max,
            expiry_ms=Instant(time.time_ns() // 1_000_000 + SIGNED_READ_MS),
        )  # fmt: skip
        return _call_value(method, await self.rpc("call_signed", raw=raw, min_height=self.height))

    async def simulate(
        self, target: str | bytes, method: str, *arguments: Value, sender: bytes | None = None
    ) -> dict[str, Any]:
        """A dry run of a transaction of `sender` (default: the client's key), as the API answers it."""
        who = sender or (self.key.address if self.key else None)
        return await self.rpc(
            "simulate", target=await self.address(target), method=method, arguments=pack(arguments), sender=who,
            min_height=self.height,
        )  # fmt: skip

    # --- transactions ---

    async def sign(
        self, target: str | bytes, method: str, *arguments: Value, key: PrivateKey | None = None,
        gas_limit: int = DEFAULT_GAS_LIMIT, lifetime: int | None = None,
    ) -> Transaction:  # fmt: skip
        """A signed transaction that is not sent. It expires `lifetime` heights from now (default: most of the chain's
        longest, leaving room for nodes that are a little behind)."""
        parameters = (await self.genesis()).parameters
        if time.monotonic() - self._height_seen_s > HEIGHT_FRESH_S:
            await self.rpc("get_pool_status")
        heights = parameters.lifetime_max * 9 // 10 if lifetime is None else lifetime
        return sign_transaction(
            self._signer(key), chain_id=self._chain_id, target=await self.address(target), method=method,
            arguments=arguments, expiry=self.height + heights,
            gas_limit=min(gas_limit, parameters.transaction_gas_max),
        )  # fmt: skip

    async def send(
        self, target: str | bytes, method: str, *arguments: Value, key: PrivateKey | None = None,
        gas_limit: int = DEFAULT_GAS_LIMIT, timeout_ms: int | None = None, check: bool = True,
    ) -> Receipt:  # fmt: skip
        """Sign, send, and wait for the certified receipt.

        Raises:
            TransactionFailed: executed, but it failed (with `check` False the receipt is returned instead).
            TransactionPending, TransactionExpired, TransactionRefused: see there; each has the hash and the bytes.
        """
        transaction = await self.sign(target, method, *arguments, key=key, gas_limit=gas_limit)
        return await self.send_signed(transaction, timeout_ms=timeout_ms, check=check)

    async def send_signed(
        self, transaction: Transaction, *, timeout_ms: int | None = None, check: bool = True
    ) -> Receipt:
        """`send` for a transaction signed before; calling it again with the same transaction is harmless."""
        deadline = time.monotonic() + (self._timeout_ms if timeout_ms is None else timeout_ms) / 1_000
        receipt = await self._named(receipt_of(await self._settle(transaction, deadline)))
        if check and not receipt.ok:
            raise TransactionFailed(receipt, raw=transaction.raw)
        return receipt

    async def _settle(self, transaction: Transaction, deadline: float) -> dict[str, Any]:
        """The document of the certified receipt. What is sent again, whatever happens, is the same bytes: their
        digest is the transaction's identity, so it is executed once at most."""
        tx_hash, raw = transaction.hash, transaction.raw
        sending, late, reason = True, False, "no time to send it"
        while (left_ms := int((deadline - time.monotonic()) * 1_000)) > 0:
            wait_ms = min(left_ms, WAIT_MS_MAX)
            bounds = {"timeout_ms": wait_ms, "within_ms": left_ms, "attempt_ms": wait_ms + GRACE_MS}
            try:
                if sending:
                    sent = await self.rpc("send_transaction", raw=raw, wait="certified", **bounds)
                    return dict(sent["receipt"])
                return await self.rpc("get_receipt", hash=tx_hash, **bounds)
            except NodesUnreachable as error:
                raise TransactionPending(str(error), tx_hash=tx_hash, raw=raw) from error
            except RpcFailed as error:
                reason = str(error)
                if error.code == EXPIRED and sending:
                    sending, late = False, True  # sent before and executed in time, perhaps: ask for its receipt
                elif error.code == EXPIRED or (error.code == NOT_FOUND and late):
                    raise TransactionExpired(error.message, tx_hash=tx_hash, raw=raw) from None
                elif error.code in (DUPLICATE, TIMEOUT):
                    sending = False
                elif error.code in (NOT_FOUND, POOL_FULL):
                    sending = True  # this node never had it, or lost it before it was certified
                    await asyncio.sleep(RESEND_PAUSE_S)
                else:
                    raise TransactionRefused(error, tx_hash=tx_hash, raw=raw) from None
        raise TransactionPending(reason, tx_hash=tx_hash, raw=raw)

    async def receipt(self, tx_hash: bytes, *, timeout_ms: int = 0) -> Receipt:
        """The certified receipt of a transaction, waiting for it at most `timeout_ms`.

        Raises:
            RpcFailed: not_found, timeout or expired.
        """
        deadline = time.monotonic() + timeout_ms / 1_000
        while True:
            left_ms = max(0, int((deadline - time.monotonic()) * 1_000))
            wait_ms = min(left_ms, WAIT_MS_MAX)
            try:
                document = await self.rpc(
                    "get_receipt", hash=tx_hash, timeout_ms=wait_ms, attempt_ms=wait_ms + GRACE_MS
                )
            except RpcFailed as error:
                if error.code not in (TIMEOUT, NOT_FOUND) or left_ms == 0:
                    raise
                await asyncio.sleep(min(RESEND_PAUSE_S, left_ms / 1_000))
            else:
                return await self._named(receipt_of(document))

    async def deploy(
        self, name: str, source: str | Path, *arguments: Value, key: PrivateKey | None = None,
        timeout_ms: int | None = None,
    ) -> Address:  # fmt: skip
        """Deploy a contract (its source text, or a file) under a name; `arguments` go to its `init`.

        Raises:
            TransactionFailed: the source is refused, the name is taken, the account may not deploy, `init` failed.
        """
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        most = (await self.genesis()).parameters.transaction_gas_max
        receipt = await self.send(
            SYSTEM_ADDRESS, "deploy", name, text, pack(arguments), key=key, gas_limit=most, timeout_ms=timeout_ms
        )
        if not isinstance(receipt.value, bytes):
            raise BadInput("malformed", "the receipt of a deployment carries no address")
        address = self._addresses[name] = Address(receipt.value)
        return address

    # --- volume ---

    async def submit(self, transactions: Iterable[Transaction | bytes]) -> list[SendResult]:
        """Hand many signed transactions to a node's pool in one binary request; one result each, in order.

        Raises:
            RpcFailed: more at once than the node takes. NodesUnreachable: submit the same again, it is harmless.
        """
        raws = [item.raw if isinstance(item, Transaction) else item for item in transactions]
        answer = await self._transport.post("/transactions", encode(raws))
        items = msgspec.msgpack.decode(answer, type=list[tuple[bytes, int, str]])
        return [
            SendResult(Digest(tx_hash), 0 if code == DUPLICATE else code, message) for tx_hash, code, message in items
        ]

    async def wait_for_receipts(
        self, hashes: Iterable[bytes], *, from_height: int, timeout_ms: int | None = None
    ) -> dict[Digest, Outcome]:
        """Where each transaction was executed, found by following the blocks from `from_height` (at most the height
        known before they were submitted, plus 1). Those not certified in the time given are missing.
        """
        wanted = {Digest(tx_hash) for tx_hash in hashes}
        found: dict[Digest, Outcome] = {}
        deadline = time.monotonic() + (self._timeout_ms if timeout_ms is None else timeout_ms) / 1_000
        height = from_height
        while wanted and (left_ms := int((deadline - time.monotonic()) * 1_000)) > 0:
            wait_ms = min(left_ms, WAIT_MS_MAX)
            answer = await self.rpc(
                "wait_blocks", from_height=height, timeout_ms=wait_ms, limit=POLL_BLOCKS, within_ms=left_ms + GRACE_MS,
                attempt_ms=wait_ms + GRACE_MS,
            )  # fmt: skip
            for block in answer["blocks"]:
                blob = unhex(block["hashes"])
                for position, status in enumerate(block["statuses"]):
                    tx_hash = Digest(blob[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])
                    if tx_hash in wanted:
                        wanted.discard(tx_hash)
                        found[tx_hash] = Outcome(Height(block["height"]), position, status)
            height = answer["next_height"]
        return found

    # --- helpers ---

    def _signer(self, key: PrivateKey | None) -> PrivateKey:
        signer = key or self.key
        if signer is None:
            raise BadInput("invalid_params", "no key to sign with: give `key` here or to the client")
        return signer

    async def _named(self, receipt: Receipt) -> Receipt:
        """The receipt with the fields of its events by name, as far as their contracts' ABIs are known."""
        if not receipt.events:
            return receipt
        return dataclasses.replace(receipt, events=tuple([await self._named_event(event) for event in receipt.events]))

    async def _named_event(self, event: ContractEvent) -> ContractEvent:
        for refresh in (False, True):  # the contract may have been upgraded since its ABI was read
            try:
                fields = (await self.abi(event.contract, refresh=refresh)).event_fields(event.name, event.values)
            except (RpcFailed, NodesUnreachable, BadInput):
                return event
            if fields is not None:
                return dataclasses.replace(event, fields=fields)
        return event


def _call_value(method: str, answer: dict[str, Any]) -> Value:
    if answer["status"] != 0:
        raise CallFailed(method=method, status=int(answer["status"]), error=str(answer["error"]))
    return value_of(answer["result"])


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _address_bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise BadInput("invalid_params", f"target: {text!r} is no address (0x and 40 hex digits)") from None
