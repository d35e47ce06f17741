"""The offline verifier on its own: what it imports, what it refuses and why, its command line."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import chain.offline
from chain.model.block import Header, decode_header, encode_header
from chain.model.genesis import ChainParameters, chain_id
from chain.model.merkle import MerkleTree, state_root
from chain.offline import ProofError, TrustError, verify_proof
from tests.unit.model.proofs_of import (
    KEY,
    Json,
    chain_with_writes,
    documents,
    genesis_of,
    receipt_document,
    value_document,
)
from tests.unit.store.factory import ChainFactory, key_of

CHAIN = chain_with_writes()
GENESIS = genesis_of(CHAIN)
DOCUMENTS = documents(CHAIN)


def test_it_imports_no_other_module_of_this_project() -> None:
    code = (
        "import sys, chain.offline\n"
        "ours = ('chain', 'consensus', 'executor', 'contracts', 'bench')\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ours))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['chain', 'chain.offline']"


def test_it_knows_every_parameter_of_genesis() -> None:
    assert ChainParameters.__struct_fields__ == (*chain.offline._PARAMETERS, "snapshot_interval")
    assert tuple(name for name, _ in chain.offline._HEADER) == Header.__struct_fields__
    assert chain.offline._trust(GENESIS).chain_id == chain_id(CHAIN.genesis)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_genesis_of_another_chain_refuses_it(name: str) -> None:
    other = genesis_of(ChainFactory(name="another"))
    with pytest.raises(ProofError, match="the trusted chain is"):
        verify_proof(DOCUMENTS[name], other)
    renamed = copy.deepcopy(GENESIS)
    renamed["validators"][0]["name"] = "another bank"
    with pytest.raises(ProofError, match="the trusted chain is"):
        verify_proof(DOCUMENTS[name], renamed)


Change = Callable[[Json], object]


def _value(change: Change) -> Json:
    document = copy.deepcopy(DOCUMENTS["value written long before"])
    change(document)
    return document


def _receipt(change: Change) -> Json:
    document = copy.deepcopy(DOCUMENTS["receipt with events and body"])
    change(document)
    return document


def _signatures(document: Json, change: Callable[[list[Json]], list[Json]]) -> None:
    document["signatures"] = change(document["signatures"])


def _forged_header(document: Json, **fields: object) -> None:
    header = decode_header(bytes.fromhex(document["header"]))
    document["header"] = encode_header(msgspec.structs.replace(header, **fields)).hex()


REFUSED: list[tuple[Json, str]] = [
    (_value(lambda d: _signatures(d, lambda s: s[:2])), "weight 2 of 4, a quorum weighs 3"),
    (_value(lambda d: _signatures(d, lambda s: [s[0], s[0], s[0]])), "one validator twice"),
    (_value(lambda d: _signatures(d, lambda s: s[::-1])), "not ascending"),
    (_value(lambda d: d["signatures"][0].update(validator="00" * 20)), "no validator in force"),
    (_value(lambda d: d["signatures"][0].update(signature="00" * 64)), "the signature of 'bank .' is wrong"),
    (_value(lambda d: d["signatures"][0].update(signature=d["signatures"][1]["signature"])), "signature of"),
    (_value(lambda d: d["validators"][0].update(weight=9)), "not the set that the header names"),
    (_value(lambda d: d["validators"].reverse()), "not the set that the header names"),
    (_value(lambda d: _forged_header(d, state_root=bytes(32))), "signature of .* is wrong"),
    (_value(lambda d: _forged_header(d, height=4)), "signature of .* is wrong"),
    (_value(lambda d: _forged_header(d, height=0)), "nothing is proved at genesis"),
    (_value(lambda d: d["absences"].pop()), "do not lead to the header's state root"),
    (_value(lambda d: d["absences"].reverse()), "do not lead to the header's state root"),
    (_value(lambda d: d["absences"].extend(d["absences"])), "6 of them at height 5"),
    (_value(lambda d: d.update(write=None)), "absences must begin at height 1"),
    (_value(lambda d: d.update(key=key_of(6).hex())), "write of another key"),
    (_value(lambda d: d["absences"][0].update(left=None)), "neighbours leave room"),
    (_value(lambda d: d["absences"][0].update(right=None)), "neighbours leave room"),
    (_value(lambda d: d["absences"][0].update(right=d["absences"][0]["left"])), "does not sort on its other side"),
    (_value(lambda d: d["claim"].update(value="00")), "claim: not what is proved"),
    (_value(lambda d: d["claim"].update(height=True)), "claim: not what is proved"),
    (_value(lambda d: d["claim"].update(note="hello")), "claim: not what is proved"),
    (_value(lambda d: d.update(note="hello")), "unknown field 'note'"),
    (_value(lambda d: d.pop("parent_state_root")), "lacks 'parent_state_root'"),
    (_value(lambda d: d.update(kind="receipt")), "lacks 'transaction'"),
    (_value(lambda d: d.update(kind="other")), "must be 'receipt' or 'value'"),
    (_value(lambda d: d.update(format="headrace-proof-2")), "this verifier reads 'headrace-proof-1'"),
    (_receipt(lambda d: d["receipt"]["proof"].update(index=16)), "do not fit|lead to the header's receipt root"),
    (_receipt(lambda d: d["receipt"]["proof"].update(index=True)), "bool where int is required"),
    (_receipt(lambda d: d["receipt"]["proof"].update(count=1)), "leaf 17 of 1"),
    (_receipt(lambda d: d["transaction"]["proof"]["siblings"].pop()), "too few levels"),
    (_receipt(lambda d: d["transaction"].update(hash="00" * 32)), "not the transaction of the receipt"),
    (_receipt(lambda d: d.update(body=d["body"] + "00")), "not the body of this transaction"),
    (_receipt(lambda d: d.update(body=None)), "claim: not what is proved"),
    (_receipt(lambda d: d.update(header=d["header"].upper())), "not lower-case hex"),
    (_receipt(lambda d: d.update(header="")), "header: cannot be decoded"),
    (_receipt(lambda d: d.update(header="90")), "not 12 or 13 fields"),
    (_receipt(lambda d: d.update(header="dc000c" + d["header"][2:])), "not the canonical encoding"),
    (_receipt(lambda d: d["receipt"]["proof"]["siblings"].append("")), "siblings do not fit 20 leaves"),
]


@pytest.mark.parametrize("at", range(len(REFUSED)))
def test_a_wrong_proof_is_refused_with_its_reason(at: int) -> None:
    document, reason = REFUSED[at]
    with pytest.raises(ProofError, match=reason):
        verify_proof(document, GENESIS)


@pytest.mark.parametrize("document", [None, [], "proof", 1, {}, {"format": []}])
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(ProofError):
        verify_proof(document, GENESIS)


def _trust_change(**fields: Any) -> Json:
    return {**copy.deepcopy(GENESIS), **fields}


@pytest.mark.parametrize(
    "genesis",
    [
        None, {}, _trust_change(format="x"), _trust_change(name=None), _trust_change(name="\ud800"),
        _trust_change(created_ms=2**70), _trust_change(validators=[]),
        _trust_change(validators=GENESIS["validators"] * 2), _trust_change(deployers=["00"]),
        _trust_change(extra=1), {"format": "headrace-trust-1", "chain_id": ""},
    ],
)  # fmt: skip
def test_a_genesis_that_cannot_be_used_is_told_apart(genesis: object) -> None:
    with pytest.raises(TrustError, match=r"^genesis: "):
        verify_proof(DOCUMENTS["deleted"], genesis)


def test_the_same_chain_with_other_validators_in_trust_is_refused() -> None:
    """An attacker's own four keys sign well, but nobody trusts them."""
    attacker = ChainFactory(name="attacker")
    attacker.genesis_header = CHAIN.genesis_header
    attacker.block([(KEY, b"\x01")])
    forged = value_document(attacker, KEY, 1, written_at=1)
    with pytest.raises(ProofError, match="validators: not the trusted set"):
        verify_proof(forged, GENESIS)


def _resign(document: Json, factory: ChainFactory, **fields: object) -> None:
    """Put a header with other fields in, signed by a quorum all the same."""
    header = msgspec.structs.replace(decode_header(bytes.fromhex(document["header"])), **fields)
    signatures = factory.certify(header).signatures
    document["header"] = encode_header(header).hex()
    document["signatures"] = [
        {"validator": item.validator.hex(), "signature": item.signature.hex()} for item in signatures
    ]


def test_what_a_quorum_signed_against_the_rules_is_not_believed() -> None:
    factory = ChainFactory()
    made = factory.block([(KEY, b"\x01")], transactions=2)
    document = receipt_document(factory, 1, 1)
    swapped = MerkleTree(made.block.receipts[::-1])
    _resign(document, factory, receipt_root=swapped.root)
    proof = swapped.prove(0)
    document["receipt"]["proof"] = {"index": 0, "count": 2, "siblings": [level.hex() for level in proof.siblings]}
    with pytest.raises(ProofError, match="transaction stands at 1, its receipt at 0"):
        verify_proof(document, genesis_of(factory))
    document = value_document(factory, key_of(500), 1, written_at=None)
    _resign(document, factory, state_root=state_root(b"\x01" * 32, made.writes))
    document["parent_state_root"] = "01" * 32
    with pytest.raises(ProofError, match="must begin at height 1 with the empty state"):
        verify_proof(document, genesis_of(factory))


# --- command line ---


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The file alone, copied away from the project."""
    alone = folder / "verify.py"
    shutil.copy(Path(chain.offline.__file__), alone)
    command = [sys.executable, "-I", str(alone), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_command_line_answers_with_its_exit_code(tmp_path: Path) -> None:
    good = copy.deepcopy(DOCUMENTS["receipt with events and body"])
    bad = {**good, "body": None}
    for name, document in (("genesis", GENESIS), ("good", good), ("bad", bad), ("empty", {})):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "twice.json").write_text('{"format": 1, "format": 2}')
    done = _run(tmp_path, "genesis.json", "good.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("VALID: receipt proof at height 1 of chain ")
    assert "signed by bank" in done.stdout
    assert f"transaction_hash: {good['claim']['transaction_hash']}" in done.stdout
    done = _run(tmp_path, "genesis.json", "good.json", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["valid"] is True
    assert answer["claim"] == good["claim"]
    done = _run(tmp_path, "genesis.json", "bad.json")
    assert (done.returncode, done.stdout[:24]) == (1, "REFUSED: claim: not what")
    for wrong in (
        ("empty.json", "good.json"), ("genesis.json", "none.json"), ("genesis.json", "twice.json"),
        ("genesis.json",), ("genesis.json", "good.json", "--other"),
    ):  # fmt: skip
        assert _run(tmp_path, *wrong).returncode == 2
    done = _run(tmp_path, "--json", "empty.json", "good.json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["valid"] is False


def test_main_is_what_python_dash_m_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, document in (("genesis", GENESIS), ("proof", DOCUMENTS["never written"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    arguments = [str(tmp_path / "genesis.json"), str(tmp_path / "proof.json")]
    assert chain.offline.main(arguments) == 0
    assert "value: null" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "chain.offline", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
