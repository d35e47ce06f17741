"""JSON-RPC 2.0 without HTTP: bytes of a request in, bytes of the answer out.

Everything a caller can get wrong ends in an error object; only our own bugs are logged, with an id that the caller
sees. Work is bounded before it is done: one request is decoded in one pass, a batch is cut off after
`BATCH_ITEMS_MAX` items without looking at the rest, and what an answer may weigh is bounded too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from chain.errors import BadInput
from chain.rpc.definitions import (
    MIN_HEIGHT_TIMEOUT_MS,
    Api,
    Call,
    MethodDefinition,
    Params,
    ReadParams,
    Registry,
    shown,
)
from chain.rpc.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NOT_READY,
    PARSE_ERROR,
    TOO_LARGE,
    RpcError,
)
from chain.rpc.limits import BATCH_ITEMS_MAX

log = structlog.get_logger("chain.rpc")

_SHOWN_CHARS_MAX: Final = 64
_WHITE: Final = (b" ", b"\t", b"\r", b"\n")

RequestId: TypeAlias = "int | float | str | msgspec.UnsetType | None"


class Request(msgspec.Struct, gc=False):
    """The envelope; unknown members are ignored, as JSON-RPC asks. No id: a notification, which gets no answer."""

    jsonrpc: str
    method: str
    id: int | float | str | msgspec.UnsetType | None = msgspec.UNSET
    params: msgspec.Raw = msgspec.Raw(b"")


class _Identified(msgspec.Struct, gc=False):
    """What is read of a request that is none, to answer it under its id."""

    id: int | float | str | None = None


class _Prepared:
    """A request whose method exists and whose parameters hold."""

    __slots__ = ("definition", "id", "min_height", "params")

    def __init__(self, definition: MethodDefinition, params: Params, request_id: RequestId) -> None:
        self.definition = definition
        self.params = params
        self.id = request_id
        self.min_height: int = params.min_height if isinstance(params, ReadParams) else 0


# An array of at most BATCH_ITEMS_MAX items: the decoder stops at the first item too many.
_Batch = msgspec.defstruct(
    "_Batch",
    [(f"item_{at}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for at in range(BATCH_ITEMS_MAX)],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
)
_decode_request: Final = msgspec.json.Decoder(Request).decode
_decode_identified: Final = msgspec.json.Decoder(_Identified).decode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_encode: Final = msgspec.json.Encoder().encode
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Dispatcher:
    """Answers requests for the methods of a registry. `on_bug` is told every exception that is ours."""

    def __init__(self, registry: Registry, api: Api, *, on_bug: Callable[[BaseException], None] | None = None) -> None:
        self._registry = registry
        self._api = api
        self._on_bug = on_bug
        self.calls: dict[str, int] = dict.fromkeys((definition.name for definition in registry), 0)
        self.errors: dict[int, int] = {}  # by code; codes are a fixed list

    async def answer(self, body: bytes) -> bytes | None:
        """The answer to one HTTP body; None if there is nothing to say (notifications only)."""
        if body[:1] in _WHITE:
            body = body.lstrip()
        if body[:1] == b"[":
            return await self._answer_batch(body)
        prepared = self._prepare(body)
        return await self._run(prepared) if isinstance(prepared, _Prepared) else prepared

    async def _answer_batch(self, body: bytes) -> bytes | None:
        try:
            batch = _decode_batch(body)
        except msgspec.ValidationError:
            return self._failed(None, RpcError(TOO_LARGE, f"a batch holds at most {BATCH_ITEMS_MAX} requests"))
        except _NOT_JSON as error:
            return self._failed(None, _parse_error(error))
        items = [item for item in msgspec.structs.astuple(batch) if item is not msgspec.UNSET]
        if not items:
            return self._failed(None, RpcError(INVALID_REQUEST, "an empty batch"))
        answers: list[bytes | asyncio.Task[bytes | None] | None] = []
        try:
            size = 0
            for item in items:
                answer = await self._answer_item(item, size)
                answers.append(answer)
                if isinstance(answer, bytes):
                    size += len(answer)
            given = [await answer if isinstance(answer, asyncio.Task) else answer for answer in answers]
        finally:
            for answer in answers:
                if isinstance(answer, asyncio.Task):
                    answer.cancel()  # without effect on one that is done
        told = [answer for answer in given if answer is not None]
        return b"[" + b",".join(told) + b"]" if told else None

    async def _answer_item(self, raw: msgspec.Raw, size: int) -> bytes | asyncio.Task[bytes | None] | None:
        """One item of a batch: its answer, or the task that will have it where it may wait."""
        bound = self._api.limits.answer_bytes_max
        if size > bound:
            refusal = RpcError(TOO_LARGE, f"the answers before this one weigh over {bound} bytes")
            return self._failed(_id_of(raw), refusal)
        prepared = self._prepare(raw)
        if not isinstance(prepared, _Prepared):
            return prepared
        if prepared.definition.waits or prepared.min_height > self._api.services.certified_height():
            return asyncio.ensure_future(self._run(prepared))
        return await self._run(prepared)

    def _prepare(self, raw: bytes | msgspec.Raw) -> _Prepared | bytes | None:
        """The checked request in `raw`, or the answer that refuses it (None: it was a notification)."""
        try:
            request = _decode_request(raw)
        except msgspec.ValidationError as error:
            return self._failed(_id_of(raw), RpcError(INVALID_REQUEST, f"not a JSON-RPC 2.0 request: {error}"))
        except _NOT_JSON as error:
            return self._failed(None, _parse_error(error))
        if request.jsonrpc != "2.0":
            return self._failed(request.id, RpcError(INVALID_REQUEST, 'the member "jsonrpc" must be "2.0"'))
        try:
            definition = self._registry.get(request.method)
            if definition is None:
                raise _unknown_method(request.method)
            self.calls[definition.name] += 1
            return _Prepared(definition, definition.decode_params(memoryview(request.params)), request.id)
        except RpcError as error:
            answer = self._failed(request.id, error)
        except _NOT_JSON as error:
            answer = self._failed(request.id, _parse_error(error))
        return None if request.id is msgspec.UNSET else answer

    async def _run(self, prepared: _Prepared) -> bytes | None:
        """Run the method; None for a notification."""
        request_id = prepared.id
        call = Call(self._api)
        try:
            if prepared.min_height > call.height:
                await _reach(call, prepared.min_height)
            result = shown(await prepared.definition.handler(call, prepared.params))
            result["certified_height"] = call.height
            answer = self._succeeded(request_id, result)
        except RpcError as error:
            answer = self._failed(request_id, error, call.height)
        except BadInput as error:
            answer = self._failed(request_id, RpcError.of(error), call.height)
        except Exception as error:  # noqa: BLE001 - our bug must not take the connection down; it is logged and reported
            answer = self._failed(request_id, self._bug(prepared.definition.name, error), call.height)
        return None if request_id is msgspec.UNSET else answer

    def _succeeded(self, request_id: RequestId, result: dict[str, Any]) -> bytes:
        shown_id = None if request_id is msgspec.UNSET else request_id
        answer = _encode({"jsonrpc": "2.0", "id": shown_id, "result": result})
        bound = self._api.limits.answer_bytes_max
        if len(answer) > bound:
            raise RpcError(TOO_LARGE, f"the answer weighs {len(answer)} bytes, over {bound}; ask for less")
        return answer

    def _failed(self, request_id: RequestId, error: RpcError, height: int | None = None) -> bytes:
        self.errors[error.number] = self.errors.get(error.number, 0) + 1
        document = error.document()
        document["data"]["certified_height"] = self._api.services.certified_height() if height is None else height
        shown_id = None if request_id is msgspec.UNSET else request_id
        return _encode({"jsonrpc": "2.0", "id": shown_id, "error": document})

    def _bug(self, method: str, error: Exception) -> RpcError:
        error_id = secrets.token_hex(8)
        log.error("rpc_method_failed", method=method, error_id=error_id, exc_info=error)
        if self._on_bug is not None:
            self._on_bug(error)
        return RpcError(INTERNAL_ERROR, "an error of the node; its log has the details", {"error_id": error_id})


async def _reach(call: Call, min_height: int) -> None:
    """Wait, within a bound, until `min_height` is certified here."""
    with call.api.waits:
        reached = await call.services.wait_height(min_height, call.timeout_ms(MIN_HEIGHT_TIMEOUT_MS))
    if not reached:
        raise RpcError(
            NOT_READY,
            f"certified height is {call.services.certified_height()}, below min_height {min_height}",
            {"min_height": min_height},
        )
    call.speaks_for(min_height)
    call.speaks_for(call.services.certified_height())


def _unknown_method(method: str) -> RpcError:
    text = method if len(method) <= _SHOWN_CHARS_MAX else method[: _SHOWN_CHARS_MAX - 3] + "..."
    return RpcError(METHOD_NOT_FOUND, f"no method {text!r}; rpc.discover lists them")


def _id_of(raw: bytes | msgspec.Raw) -> RequestId:
    try:
        return _decode_identified(raw).id
    except _NOT_JSON:
        return None


def _parse_error(error: Exception) -> RpcError:
    if isinstance(error, RecursionError):
        return RpcError(PARSE_ERROR, "nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return RpcError(PARSE_ERROR, "not UTF-8")
    return RpcError(PARSE_ERROR, str(error))
