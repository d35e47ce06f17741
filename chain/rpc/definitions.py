"""A method is declared once, as a typed function; validation, OpenRPC and the docs are read off that declaration.

    @METHODS.add("get_header", tag="blocks")
    async def get_header(call: Call, params: AtHeight) -> HeaderResult:
        '''The executed header of a block.'''

Parameters come by name (an object) or by position (an array, in the order of the declared fields).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from chain.rpc.errors import BUSY, RpcError, invalid_params
from chain.rpc.limits import RpcLimits
from chain.rpc.services import NodeServices, Shown
from chain.types import DIGEST_BYTES, Instant

INTEGER_MAX: Final = 2**63 - 1
MIN_HEIGHT_TIMEOUT_MS: Final = 5_000

Hex: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^0x([0-9a-f]{2})*$"})]
HeightNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=INTEGER_MAX)]
Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of every method's parameters."""


class ReadParams(Params, frozen=True, kw_only=True):
    """Base of reads: the answer speaks for at least `min_height`, or it is the error not_ready."""

    min_height: Annotated[
        HeightNumber,
        msgspec.Meta(description="Answer only once this height is certified here (read your own writes)."),
    ] = 0


class Gate:
    """Counts what is under way, so that waiting and running requests are bounded."""

    __slots__ = ("_busy", "_max", "_what")

    def __init__(self, what: str, maximum: int) -> None:
        self._what = what
        self._max = maximum
        self._busy = 0

    def __enter__(self) -> None:
        if self._busy >= self._max:
            raise RpcError(BUSY, f"{self._busy} {self._what} are under way, the bound is {self._max}; try again")
        self._busy += 1

    def __exit__(self, *_: object) -> None:
        self._busy -= 1

    @property
    def busy(self) -> int:
        return self._busy


class Api:
    """What all requests of one server have in common. `now`: milliseconds since the epoch, for signed reads."""

    __slots__ = ("limits", "now", "queries", "services", "waits")

    def __init__(self, services: NodeServices, limits: RpcLimits, now: Callable[[], Instant]) -> None:
        self.services = services
        self.limits = limits
        self.now = now
        self.waits = Gate("waiting requests", limits.waits_max)
        self.queries = Gate("contract reads", limits.queries_max)


class Call:
    """One request under way. `height` becomes `certified_height` of the answer: it speaks for all up to there."""

    __slots__ = ("api", "height", "limits", "services")

    def __init__(self, api: Api) -> None:
        self.api = api
        self.services = api.services
        self.limits = api.limits
        self.height = api.services.certified_height()

    def timeout_ms(self, wanted: int) -> int:
        """The wait that is granted."""
        return min(wanted, self.limits.wait_timeout_ms_max)

    def speaks_for(self, height: int | None) -> None:
        """The answer was read later than the request came, at `height` or above."""
        if height is not None and height > self.height:
            self.height = height


Handler: TypeAlias = Callable[[Call, Any], Awaitable[Shown]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDefinition:
    """`waits`: the method may take long without working, so a batch does not queue behind it."""

    name: str
    tag: str
    summary: str
    description: str
    params: type[Params]
    result: type[Shown]
    errors: tuple[int, ...]
    waits: bool
    handler: Handler
    fields: tuple[str, ...]  # in the order of positional parameters
    named: msgspec.json.Decoder[Any]
    positional: msgspec.json.Decoder[Any]

    def decode_params(self, raw: bytes | memoryview) -> Params:
        """The typed parameters in the JSON `raw` (empty: none given).

        Raises:
            RpcError: INVALID_PARAMS; the text names the parameter.
            msgspec.DecodeError (not ValidationError): not JSON.
        """
        try:
            if not raw:
                decoded = self.named.decode(b"{}")
            elif bytes(raw[:1]) == b"[":
                by_position = self.positional.decode(raw)
                decoded = self.params(**{name: getattr(by_position, name) for name in self.fields})
            else:
                decoded = self.named.decode(raw)
        except msgspec.ValidationError as error:
            raise invalid_params(f"{self.name}: {error}; parameters are ({', '.join(self.fields)})") from None
        return decoded  # type: ignore[no-any-return]


class Registry:
    """Methods by name, in the order of their declaration."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodDefinition] = {}

    def add(
        self, name: str, *, tag: str, errors: tuple[int, ...] = (), waits: bool = False
    ) -> Callable[[Handler], Handler]:
        """Decorator of a handler `async (call, params) -> result`; its docstring is the documentation."""

        def register(handler: Handler) -> Handler:
            hints = typing.get_type_hints(handler, include_extras=True)
            params, result = hints["params"], hints["return"]
            text = inspect.getdoc(handler) or ""
            summary, _, description = text.partition("\n\n")
            fields = _positional_order(params)
            self._methods[name] = MethodDefinition(
                name=name, tag=tag, summary=" ".join(summary.split()), description=description, params=params,
                result=result, errors=errors, waits=waits, handler=handler, fields=fields,
                named=msgspec.json.Decoder(params), positional=msgspec.json.Decoder(_by_position(params, fields)),
            )  # fmt: skip
            return handler

        return register

    def get(self, name: str) -> MethodDefinition | None:
        return self._methods.get(name)

    def __iter__(self) -> Iterator[MethodDefinition]:
        return iter(self._methods.values())

    def __len__(self) -> int:
        return len(self._methods)


def _positional_order(params: type[Params]) -> tuple[str, ...]:
    """Required fields first, then optional ones, `min_height` last."""
    described = msgspec.structs.fields(params)
    required = [field.name for field in described if field.required]
    optional = [field.name for field in described if not field.required and field.name != "min_height"]
    return (*required, *optional, *(("min_height",) if issubclass(params, ReadParams) else ()))


def _by_position(params: type[Params], order: tuple[str, ...]) -> type[msgspec.Struct]:
    """The same fields as an array."""
    described = {field.name: field for field in msgspec.structs.fields(params)}
    spec: list[Any] = []
    for name in order:
        field = described[name]
        if field.required:
            spec.append((name, field.type))
        elif field.default_factory is not msgspec.NODEFAULT:
            spec.append((name, field.type, msgspec.field(default_factory=field.default_factory)))
        else:
            spec.append((name, field.type, field.default))
    return msgspec.defstruct(
        f"{params.__name__}ByPosition", spec, array_like=True, forbid_unknown_fields=True, frozen=True
    )


def unhex(text: str, name: str, *, length: int | None = None) -> bytes:
    """The bytes of a 0x-hex parameter.

    Raises:
        RpcError: INVALID_PARAMS naming the parameter.
    """
    if text[:2] != "0x":
        raise invalid_params(f"{name}: bytes are written 0x and an even number of hex digits")
    try:
        # `fromhex` would skip white space: one value would have many texts.
        value = bytes.fromhex(text[2:]) if " " not in text else None
    except ValueError:
        value = None
    if value is None or len(value) * 2 + 2 != len(text):
        raise invalid_params(f"{name}: bytes are written 0x and an even number of hex digits")
    if length is not None and len(value) != length:
        raise invalid_params(f"{name}: {len(value)} bytes, must be {length}")
    return value


def unhex_hash(text: str, name: str = "hash") -> bytes:
    return unhex(text, name, length=DIGEST_BYTES)


def shown(value: Any) -> Any:
    """The JSON form of a result: bytes as 0x-hex, records and structs as objects, tuples as arrays."""
    kind = type(value)
    if kind is bytes:
        return "0x" + value.hex()
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is tuple or kind is list:
        return [shown(item) for item in value]
    if kind is dict:
        return {name: shown(item) for name, item in value.items()}
    fields = getattr(kind, "__struct_fields__", None)
    if fields is not None:
        return {name: shown(getattr(value, name)) for name in fields}
    return value


METHODS: Final = Registry()
