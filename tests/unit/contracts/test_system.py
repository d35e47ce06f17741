"""The system contract: deploy, upgrade, freeze, unfreeze, abolish, set_admin and what can be asked."""

from __future__ import annotations

import json

import pytest

from chain.codec import pack, tagged_digest
from contracts.language import code_hash, contract_abi
from contracts.runtime.errors import Status
from contracts.runtime.testing import LocalChain
from contracts.sources import load_source
from contracts.system import SYSTEM_ABI, SYSTEM_ADDRESS, contract_address
from contracts.system.members import METHODS

_V1 = """
class Box(Contract):
    content: Value[int]

    def init(self, content: int):
        require(content >= 0, "negative")
        self.content.set(content)

    @external
    def put(self, content: int) -> int:
        self.content.set(content)
        return 1

    @view
    def get(self) -> int:
        return self.content.get()
"""
_PLAIN = "class A(Contract):\n    pass"
_V2 = _V1.replace("return 1", "return 2")


@pytest.fixture
def chain() -> LocalChain:
    return LocalChain()


@pytest.fixture
def admin(chain: LocalChain) -> bytes:
    return chain.account("admin")


@pytest.fixture
def box(chain: LocalChain, admin: bytes) -> bytes:
    return chain.deploy("box", _V1, 5, sender=admin)


def test_deploy_runs_init_names_the_contract_and_says_so(chain: LocalChain, admin: bytes) -> None:
    result = chain.call(SYSTEM_ADDRESS, "deploy", "my.box", _V1, pack((5,)), sender=admin)
    address = result.value
    assert address == contract_address(tagged_digest(b"headrace/test-transaction/1", (1).to_bytes(8, "big")))
    expected = {"address": address, "name": "my.box", "code_hash": code_hash(_V1), "admin": admin}
    assert result.events == [("Deployed", expected)]
    assert chain.read(address, "get").value == 5
    assert chain.read(SYSTEM_ADDRESS, "resolve", "my.box").value == address
    assert chain.read(SYSTEM_ADDRESS, "resolve", "other").value is None
    assert chain.read(SYSTEM_ADDRESS, "code", address).value == _V1
    assert chain.read(SYSTEM_ADDRESS, "abi", address).value == contract_abi(_V1)
    assert chain.read(SYSTEM_ADDRESS, "info", address).value == ("my.box", code_hash(_V1), admin, 0, 1, 1, 1)
    assert chain.read(SYSTEM_ADDRESS, "info", admin).value is None


@pytest.mark.parametrize(
    ("name", "source", "arguments", "status", "error"),
    [
        ("Box", _V1, (5,), Status.BAD_ARGUMENTS, "name: 1 to 64 of a-z 0-9 _ . -, a letter first"),
        ("", _V1, (5,), Status.BAD_ARGUMENTS, "name: 1 to 64 of a-z 0-9 _ . -, a letter first"),
        ("box", _V1, ("x",), Status.BAD_ARGUMENTS, "init: expected int, not str"),
        ("box", _V1, (), Status.BAD_ARGUMENTS, "init: 1 arguments expected, 0 given"),
        ("box", _V1, (-1,), Status.REVERTED, "negative"),
        ("box", _PLAIN, (1,), Status.BAD_ARGUMENTS, "the contract has no init and takes no arguments"),
        ("box", "import os", (), Status.BAD_SOURCE, "bad_source: contract line 1, import line 1"),
        ("box", "x = (", (), Status.BAD_SOURCE, "bad_source: syntax"),
        ("box", _V1 + "    y = 1.0\n", (5,), Status.BAD_SOURCE, "bad_source: class_state line 17"),
    ],
)  # fmt: skip
def test_a_deployment_that_fails_leaves_nothing(
    chain: LocalChain, name: str, source: str, arguments: tuple[object, ...], status: Status, error: str
) -> None:
    result = chain.call(SYSTEM_ADDRESS, "deploy", name, source, pack(arguments))  # type: ignore[arg-type]
    assert (result.status, result.error, result.outcome.writes) == (status, error, {})
    assert chain.read(SYSTEM_ADDRESS, "resolve", "box").value is None


def test_a_name_is_taken_once_and_for_ever(chain: LocalChain, admin: bytes, box: bytes) -> None:
    assert chain.call(SYSTEM_ADDRESS, "deploy", "box", _V1, pack((5,))).error == "name_taken"
    chain.call(SYSTEM_ADDRESS, "abolish", box, sender=admin)
    assert chain.call(SYSTEM_ADDRESS, "deploy", "box", _V1, pack((5,))).error == "name_taken"


def test_only_deployers_deploy_where_there_are_any() -> None:
    alice = LocalChain().account("alice")
    chain = LocalChain(deployers=[alice])
    refused = chain.call(SYSTEM_ADDRESS, "deploy", "box", _V1, pack((5,)), sender=chain.account("bob"))
    assert (refused.status, refused.error) == (Status.FORBIDDEN, "not_a_deployer")
    assert chain.deploy("box", _V1, 5, sender=alice)


def test_an_upgrade_keeps_the_storage_and_no_stale_code_is_called(chain: LocalChain, admin: bytes, box: bytes) -> None:
    assert chain.call(box, "put", 7).value == 1
    result = chain.call(SYSTEM_ADDRESS, "upgrade", box, _V2, sender=admin)
    assert result.events == [("Upgraded", {"address": box, "code_hash": code_hash(_V2), "version": 2})]
    assert chain.read(box, "get").value == 7
    assert chain.call(box, "put", 8).value == 2
    chain.call(SYSTEM_ADDRESS, "upgrade", box, _V1, sender=admin)
    assert chain.call(box, "put", 9).value == 1
    assert chain.read(SYSTEM_ADDRESS, "info", box).value[4] == 3
    assert chain.call(SYSTEM_ADDRESS, "upgrade", box, "x = 1.0", sender=admin).status == Status.BAD_SOURCE
    assert chain.read(SYSTEM_ADDRESS, "info", box).value[4] == 3


def test_frozen_answers_views_only(chain: LocalChain, admin: bytes, box: bytes) -> None:
    chain.call(SYSTEM_ADDRESS, "freeze", box, sender=admin)
    result = chain.call(box, "put", 7)
    assert (result.status, result.error) == (Status.FROZEN, "contract_frozen")
    assert chain.read(box, "get").value == 5
    chain.call(SYSTEM_ADDRESS, "unfreeze", box, sender=admin)
    assert chain.call(box, "put", 7).ok


def test_abolished_answers_nothing_and_stays_so(chain: LocalChain, admin: bytes, box: bytes) -> None:
    chain.call(SYSTEM_ADDRESS, "abolish", box, sender=admin)
    for result in (chain.call(box, "put", 7), chain.read(box, "get")):
        assert (result.status, result.error) == (Status.UNKNOWN_CONTRACT, "contract_abolished")
    for method, more in (("unfreeze", ()), ("upgrade", (_V2,)), ("set_admin", (admin,)), ("abolish", ())):
        assert chain.call(SYSTEM_ADDRESS, method, box, *more, sender=admin).error == "contract_abolished"
    assert chain.read(SYSTEM_ADDRESS, "code", box).value == _V1


_BY_ADMIN = [("freeze", ()), ("unfreeze", ()), ("abolish", ()), ("upgrade", (_V2,)), ("set_admin", (bytes(20),))]


@pytest.mark.parametrize(("method", "more"), _BY_ADMIN)
def test_only_the_admin_may(chain: LocalChain, admin: bytes, box: bytes, method: str, more: tuple[object, ...]) -> None:
    bob = chain.account("bob")
    refused = chain.call(SYSTEM_ADDRESS, method, box, *more, sender=bob)
    assert (refused.status, refused.error) == (Status.FORBIDDEN, "not_the_admin")
    missing = chain.call(SYSTEM_ADDRESS, method, bob, *more, sender=bob)
    assert (missing.status, missing.error) == (Status.UNKNOWN_CONTRACT, "unknown_contract")
    chain.call(SYSTEM_ADDRESS, "set_admin", box, bob, sender=admin)
    assert chain.call(SYSTEM_ADDRESS, method, box, *more, sender=bob).ok
    assert chain.call(SYSTEM_ADDRESS, "freeze", box, sender=admin).status != Status.OK


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("freeze", (), "freeze: 1 arguments expected"),
        ("freeze", (bytes(19),), "freeze: address must be Address"),
        ("freeze", ("x",), "freeze: address must be Address"),
        ("resolve", (b"x",), "resolve: name must be str"),
        ("deploy", ("x", "y", "z"), "deploy: arguments must be bytes"),
    ],
)
def test_arguments_are_checked(chain: LocalChain, method: str, arguments: tuple[object, ...], error: str) -> None:
    result = chain.call(SYSTEM_ADDRESS, method, *arguments)
    assert (result.status, result.error) == (Status.BAD_ARGUMENTS, error)


def test_unknown_methods(chain: LocalChain) -> None:
    assert chain.call(SYSTEM_ADDRESS, "_deploy").status == Status.UNKNOWN_METHOD


def test_the_system_abi_names_every_method(chain: LocalChain) -> None:
    assert chain.read(SYSTEM_ADDRESS, "abi", SYSTEM_ADDRESS).value == SYSTEM_ABI
    names = [method["name"] for method in json.loads(SYSTEM_ABI)["methods"]]
    assert names[:6] == ["deploy", "upgrade", "freeze", "unfreeze", "abolish", "set_admin"]
    assert names[6:10] == ["code", "abi", "resolve", "info"]
    assert names[10:] == list(METHODS)


_FACTORY = """
class System(Interface):
    @external
    def deploy(self, name: str, source: str, arguments: bytes) -> Address: ...
    @external
    def upgrade(self, address: Address, source: str): ...
    @external
    def freeze(self, address: Address): ...
    @view
    def resolve(self, name: str) -> Address | None: ...

class Box(Interface):
    @external
    def put(self, content: int) -> int: ...

SYSTEM = b"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01"

class Factory(Contract):
    @external
    def make(self, first: str, second: str) -> tuple[int, int, str]:
        box = System(SYSTEM).deploy("made", first, encode(1))
        before = Box(box).put(1)
        System(SYSTEM).upgrade(box, second)
        after = Box(box).put(2)
        System(SYSTEM).freeze(box)
        try:
            Box(box).put(3)
        except CallFailed as failure:
            return (before, after, failure.reason)
        return (before, after, "not frozen")

    @external
    def twice(self, source: str):
        System(SYSTEM).deploy("one", source, encode(1))
        System(SYSTEM).deploy("two", source, encode(1))

    @view
    def peek(self) -> Address | None:
        return System(SYSTEM).resolve("made")

    @view
    def sneak(self, source: str) -> Address:
        return System(SYSTEM).deploy("sneaked", source, encode(1))
"""


def test_code_changes_count_from_the_next_call_on_even_inside_one_transaction(chain: LocalChain) -> None:
    factory = chain.deploy("factory", _FACTORY)
    assert chain.call(factory, "make", _V1, _V2).value == (1, 2, "contract_frozen")
    made = chain.read(factory, "peek").value
    assert chain.read(SYSTEM_ADDRESS, "info", made).value[2:4] == (factory, 1)
    assert chain.call(factory, "twice", _V1).error == "one_deployment_per_transaction"
    assert chain.call(factory, "sneak", _V1).status == Status.FORBIDDEN


def test_a_machine_that_never_saw_the_deployment_runs_the_code(chain: LocalChain, box: bytes) -> None:
    other = LocalChain()
    other.state.update(chain.state)
    assert other.read(box, "get").value == 5


def test_the_token_and_the_bank_have_an_abi() -> None:
    abi = json.loads(contract_abi(load_source("library/token")))
    assert abi["contract"] == "Token"
    assert abi["init"] == [
        {"name": "name", "type": "str"},
        {"name": "symbol", "type": "str"},
        {"name": "supply", "type": "int"},
    ]
    transfer = next(method for method in abi["methods"] if method["name"] == "transfer")
    assert transfer == {
        "name": "transfer",
        "mutability": "external",
        "parameters": [{"name": "destination", "type": "Address"}, {"name": "amount", "type": "int"}],
        "returns": None,
        "doc": "Send from the caller's balance.",
    }
    assert [event["name"] for event in abi["events"]] == ["Transferred", "Approved", "OwnerChanged"]
    assert {"name": "allowances", "kind": "Map", "key": ["Address", "Address"], "value": "int"} in abi["storage"]
    assert abi["constants"] == {"NOBODY": "0x" + "00" * 20}
