"""A compiled contract bound to an address: functions ready to call, with nothing in them that a transaction changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from chain.codec import unpack
from chain.errors import DecodeError
from contracts.language import gas
from contracts.language.build import constant_name, interface_name, method_name, struct_name, stub_name
from contracts.language.compiler import CompiledContract
from contracts.language.model import InterfaceDecl, MethodDecl, Mutability, StubDecl
from contracts.language.types import TupleOf, Type
from contracts.runtime.accessors import Accessors
from contracts.runtime.errors import ContractError, Status
from contracts.runtime.frame import Frame
from contracts.runtime.functions import FUNCTIONS
from contracts.runtime.metering import visit, wrong_type
from contracts.runtime.methods import VALUE_METHODS
from contracts.runtime.operations import OPERATIONS
from contracts.runtime.records import Checker, Shapes, encode_fast, encode_value


class Method:
    """A public method: decodes its arguments, runs, checks and encodes its result."""

    __slots__ = ("_decode", "_function", "_returns", "_revive", "is_view", "name")

    def __init__(self, declared: MethodDecl, shapes: Shapes, function: Callable[..., Any]) -> None:
        types = tuple(kind for kind in declared.types if kind is not None)
        self.name = declared.name
        self.is_view = declared.mutability is Mutability.VIEW
        self._function = function
        self._returns: Checker | None = None if declared.returns is None else shapes.checker(declared.returns)
        self._decode, self._revive = _argument_decoder(types, shapes)

    def run(self, x: Frame, packed: bytes) -> bytes:
        """The packed result.

        Raises:
            ContractError: BAD_ARGUMENTS, or whatever the method ends with (then possibly as Python's own error).
        """
        try:
            arguments = self._decode(packed)
            canonical = encode_fast(arguments) == packed
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
            canonical = False
        if not canonical:
            arguments = self._slow(x, packed)
        result = self._function(x, *arguments)
        if self._returns is None:
            return b""
        return encode_value(self._returns(x, result))

    def _slow(self, x: Frame, packed: bytes) -> tuple[Any, ...]:
        """Integers beyond 64 bits, or a proper error."""
        x.charge(gas.WIDE_BYTE * len(packed))
        try:
            arguments: tuple[Any, ...] = self._revive(unpack(packed))
        except DecodeError:
            raise ContractError(Status.BAD_ARGUMENTS, "malformed arguments") from None
        except ContractError as error:
            raise ContractError(Status.BAD_ARGUMENTS, f"{self.name}: {error.reason}") from None
        return arguments


def _argument_decoder(
    types: tuple[Type, ...], shapes: Shapes
) -> tuple[Callable[[bytes], Any], Callable[[Any], tuple[Any, ...]]]:
    if not types:
        return msgspec.msgpack.Decoder(tuple[()]).decode, _no_arguments
    kind = TupleOf(types)

    def revive(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple or len(value) != len(types):
            given = len(value) if type(value) is tuple else "no tuple of"
            raise ContractError(Status.BAD_ARGUMENTS, f"{len(types)} arguments expected, {given} given")
        made: tuple[Any, ...] = shapes.revive(kind, value)
        return made

    return msgspec.msgpack.Decoder(shapes.native(kind)).decode, revive


def _no_arguments(value: Any) -> tuple[Any, ...]:
    if value != ():
        raise ContractError(Status.BAD_ARGUMENTS, "no arguments expected")
    return ()


class Stub:
    """A method of an interface, from the caller's side."""

    __slots__ = ("_checkers", "_decode", "is_view", "name")

    def __init__(self, declared: StubDecl, shapes: Shapes) -> None:
        self.name = declared.name
        self.is_view = declared.is_view
        self._checkers = tuple(shapes.checker(parameter.type) for parameter in declared.parameters)
        self._decode = None if declared.returns is None else shapes.decoder(declared.returns)

    def pack(self, x: Frame, arguments: tuple[Any, ...]) -> bytes:
        if len(arguments) != len(self._checkers):
            raise ContractError(Status.TYPE, f"{self.name} takes {len(self._checkers)} arguments")
        return encode_value(tuple([check(x, value) for check, value in zip(self._checkers, arguments, strict=True)]))

    def unpack(self, x: Frame, result: bytes) -> Any:
        if self._decode is None:
            return None
        if not result:
            raise ContractError(Status.TYPE, f"{self.name} returned nothing")
        return self._decode(x, result)


class Reference:
    """`Interface(address)` as a local value. It can be called and compared, not stored."""

    __slots__ = ("_stubs", "f_address")

    def __init__(self, stubs: dict[str, Stub], address: bytes) -> None:
        self._stubs = stubs
        self.f_address = address

    def stub(self, name: str) -> Stub:
        found = self._stubs.get(name)
        if found is None:
            raise ContractError(Status.TYPE, f"the interface has no method {name}")
        return found


def call(x: Frame, stub: Stub, address: Any, arguments: tuple[Any, ...]) -> Any:
    """`Interface(address).method(...)`.

    Raises:
        CallFailed: the callee failed; its writes and events are gone.
    """
    if type(address) is not bytes or len(address) != 20:
        raise wrong_type("Address", address)
    packed = stub.pack(x, arguments)
    return x.context.machine.call(x, address, stub.name, packed, stub.is_view, stub.unpack)


def reference(x: Frame, value: Any, name: str, arguments: tuple[Any, ...], local: Callable[..., Any] | None) -> Any:
    """`value.method(...)` where `value` may be a reference to a contract or a local value."""
    if type(value) is Reference:
        return call(x, value.stub(name), value.f_address, arguments)
    if local is None:
        raise wrong_type("a contract to call", value)
    return local(x, value, *arguments)


class Linked:
    """What all deployments of one source share: struct classes, generated accessors, interface stubs."""

    __slots__ = ("_accessors", "_shapes", "_shared", "compiled")

    def __init__(self, compiled: CompiledContract, extra: Mapping[str, Any] = MappingProxyType({})) -> None:
        """`extra` is put into the namespace of every deployment: what itemised code calls."""
        model = compiled.model
        self.compiled = compiled
        self._shapes = Shapes(model)
        self._accessors = Accessors(model, self._shapes, has_adds=compiled.rules.has_adds)
        self._shared: dict[str, Any] = {
            "__builtins__": {},
            "h__call": call,
            "h__reference": reference,
            **OPERATIONS,
            **FUNCTIONS,
            **VALUE_METHODS,
            **extra,
        }
        for name, value in model.constants.items():
            self._shared[constant_name(name)] = value
        for interface in model.interfaces.values():
            self._link_interface(interface)

    def _link_interface(self, interface: InterfaceDecl) -> None:
        stubs = {name: Stub(stub, self._shapes) for name, stub in interface.stubs.items()}
        for name, stub in stubs.items():
            self._shared[stub_name(interface.name, name)] = stub

        def refer(x: Frame, address: Any) -> Reference:
            if type(address) is not bytes or len(address) != 20:
                raise wrong_type("Address", address)
            return Reference(stubs, address)

        self._shared[interface_name(interface.name)] = refer

    def bind(self, address: bytes) -> Instance:
        """The contract at `address`."""
        bound = self._accessors.bind(address)
        constructors = {kind: bound[struct_name(name)] for name, kind in self._shapes.structs.items()}
        namespace = self._shared | bound
        namespace["h__replace"] = _replacer(constructors)
        exec(self.compiled.code, namespace)  # noqa: S102
        methods: dict[str, Method] = {}
        init: Method | None = None
        for name, declared in self.compiled.model.methods.items():
            if declared.mutability is Mutability.PRIVATE:
                continue
            method = Method(declared, self._shapes, namespace[method_name(name)])
            if declared.mutability is Mutability.INIT:
                init = method
            else:
                methods[name] = method
        return Instance(self.compiled, methods, init)


def _replacer(constructors: dict[type[msgspec.Struct], Callable[..., Any]]) -> Callable[..., Any]:
    def replace(x: Frame, value: Any, /, **fields: Any) -> Any:
        """`struct.replace(field=...)`: the constructor checks the fields."""
        construct = constructors.get(type(value))
        if construct is None:
            raise wrong_type("a struct to replace fields of", value)
        visit(x, len(value.__struct_fields__))
        return construct(x, **{name: getattr(value, name) for name in value.__struct_fields__} | fields)

    return replace


class Instance:
    """A contract at an address. Immutable; shared by every transaction until its code changes."""

    __slots__ = ("compiled", "init", "methods")

    def __init__(self, compiled: CompiledContract, methods: dict[str, Method], init: Method | None) -> None:
        self.compiled = compiled
        self.methods = methods
        self.init = init
