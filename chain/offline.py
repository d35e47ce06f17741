"""The offline verifier: checks a proof against a trusted genesis, with no node, network or other module of ours.

    python -m chain.offline genesis.json proof.json [--json]

Exit code 0: the proof holds. 1: it is refused, and the text says exactly why. 2: an input cannot be used at all.

This file stands alone: the standard library, msgpack and PyNaCl. It states the rules a second time on purpose, from
docs/proofs.md, so that a mistake in the node's own code cannot vouch for itself. Copy it anywhere.

What is trusted is the genesis (or only the chain id and the validators, see `_trust`). Every field of a proof counts:
one that is changed, missing or unknown makes the proof refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

PROOF_FORMAT = "headrace-proof-1"
GENESIS_FORMAT = "headrace-genesis-1"
TRUST_FORMAT = "headrace-trust-1"
DOCUMENT_BYTES_MAX = 256 * 1024 * 1024

_CHECKPOINT = 4  # the vote type of a header's certificate
_ARITY = 16
_SNAPSHOT_RULE_SET = 3  # from it on a genesis has a snapshot interval and a header a snapshot root
_ZERO = bytes(32)
_SETS = bytes(19) + b"\x01validators\x00"  # state keys of the validator sets that were ever scheduled
_HEX = re.compile("(?:[0-9a-f]{2})*")
_PARAMETERS = (
    "rule_set", "window", "block_transactions_max", "block_bytes_max", "block_gas_max", "transaction_gas_max",
    "lifetime_max", "timestamp_drift_ms_max",
)  # fmt: skip
_HEADER: tuple[tuple[str, type], ...] = (
    ("chain_id", bytes), ("height", int), ("time_ms", int), ("parent_hash", bytes), ("proposal_digest", bytes),
    ("rule_set", int), ("validator_set_hash", bytes), ("transaction_count", int), ("transaction_root", bytes),
    ("receipt_root", bytes), ("state_root", bytes), ("gas_used", int), ("snapshot_root", bytes),
)  # fmt: skip
_RULE_SET_AT = [name for name, _ in _HEADER].index("rule_set")


class ProofError(Exception):
    """The proof does not hold; the text is the reason."""


class TrustError(ProofError):
    """The genesis (or trust document) itself cannot be used."""


@dataclass(frozen=True)
class Verdict:
    """What a proof that holds says. `claim` is the document's claim, every field of it proved."""

    kind: str  # "receipt" or "value"
    chain_id: str
    height: int
    time_ms: int  # block time of `height`, milliseconds since 1970
    claim: dict[str, Any]
    signers: tuple[str, ...]  # names of the validators whose signatures were checked
    weight: int
    quorum: int
    total_weight: int


@dataclass(frozen=True)
class _Validator:
    name: str
    key: bytes
    weight: int


@dataclass(frozen=True)
class _Trust:
    chain_id: bytes
    validators: tuple[_Validator, ...]
    window: int | None = None  # None: a trust document, which does not say since when its set is in force either


def verify_proof(document: object, genesis: object) -> Verdict:
    """Check a parsed proof against a parsed genesis.json (or trust document).

    Raises:
        TrustError: the genesis cannot be used.
        ProofError: the proof does not hold; the text says which rule it breaks.
    """
    trust = _trust(genesis)
    head = _get(document, "proof", dict)
    if head.get("format") != PROOF_FORMAT:
        raise ProofError(f"format is {head.get('format')!r}, this verifier reads {PROOF_FORMAT!r}")
    check: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    own: tuple[str, ...]
    if head.get("kind") == "receipt":
        check, own = _receipt_claim, ("transaction", "receipt", "body")
    elif head.get("kind") == "value":
        check, own = _value_claim, ("key", "parent_state_root", "write", "absences")
    else:
        raise ProofError(f"kind is {head.get('kind')!r}, must be 'receipt' or 'value'")
    fields = ("format", "kind", "claim", "header", "signatures", "validators", *own)
    proof = _object(document, "proof", (*fields, "changes") if "changes" in head else fields)
    header = _header(proof["header"])
    if header["chain_id"] != trust.chain_id:
        raise ProofError(f"header: chain {header['chain_id'].hex()}, the trusted chain is {trust.chain_id.hex()}")
    signers, weight, quorum, total = _certificate(proof, header, trust)
    claim = check(proof, header)
    # Compared as text: JSON's true and 1.0 are not 1.
    if json.dumps(claim, sort_keys=True) != json.dumps(proof["claim"], sort_keys=True):
        raise ProofError(f"claim: not what is proved, which is {json.dumps(claim, sort_keys=True)[:400]}")
    return Verdict(
        kind=proof["kind"], chain_id=trust.chain_id.hex(), height=header["height"], time_ms=header["time_ms"],
        claim=claim, signers=signers, weight=weight, quorum=quorum, total_weight=total,
    )  # fmt: skip


# --- trust: chain id and validators ---


def _trust(document: object) -> _Trust:
    """The chain id and validators of a genesis.json, or of a trust document that states them:

    {"format": "headrace-trust-1", "chain_id": hex, "validators": [{"name", "public_key", "weight"}, ...]}
    """
    try:
        top = _get(document, "genesis", dict)
        if top.get("format") == TRUST_FORMAT:
            trust = _object(document, "trust", ("format", "chain_id", "validators"))
            return _Trust(_hex(trust["chain_id"], "chain_id", 32), _validators(trust["validators"]))
        if top.get("format") != GENESIS_FORMAT:
            raise ProofError(f"format is {top.get('format')!r}, must be {GENESIS_FORMAT!r} or {TRUST_FORMAT!r}")
        genesis = _object(
            document, "genesis",
            ("format", "name", "created_ms", "parameters", "validators", "ca_certificate_sha256", "deployers"),
        )  # fmt: skip
        number = _get(genesis["parameters"], "parameters", dict).get("rule_set")
        newer = type(number) is int and number >= _SNAPSHOT_RULE_SET
        names = (*_PARAMETERS, "snapshot_interval") if newer else _PARAMETERS
        parameters = _object(genesis["parameters"], "parameters", names)
        validators = _validators(genesis["validators"])
        encoded = _pack(
            [
                _get(genesis["name"], "name", str),
                _get(genesis["created_ms"], "created_ms", int),
                [_get(parameters[field], field, int) for field in names],
                [[member.name, member.key, member.weight] for member in validators],
                _hex(genesis["ca_certificate_sha256"], "ca_certificate_sha256", 32),
                [_hex(item, "deployers", 20) for item in _get(genesis["deployers"], "deployers", list)],
            ]
        )
        window = _get(parameters["window"], "window", int)
        return _Trust(_tagged(b"headrace/genesis/1", encoded), validators, window)
    except ProofError as error:
        raise TrustError(f"genesis: {error}") from None


def _validators(value: object) -> tuple[_Validator, ...]:
    members: list[_Validator] = []
    for at, item in enumerate(_get(value, "validators", list)):
        fields = _object(item, f"validators[{at}]", ("name", "public_key", "weight"))
        member = _Validator(
            name=_get(fields["name"], f"validators[{at}].name", str),
            key=_hex(fields["public_key"], f"validators[{at}].public_key", 32),
            weight=_get(fields["weight"], f"validators[{at}].weight", int),
        )
        if member.weight < 1:
            raise ProofError(f"validators[{at}].weight is {member.weight}, must be at least 1")
        members.append(member)
    if not members or len({member.key for member in members}) != len(members):
        raise ProofError("validators: none, or two with one public key")
    return tuple(members)


def _set_digest(validators: tuple[_Validator, ...]) -> bytes:
    members = [[member.name, member.key, member.weight] for member in validators]
    return _tagged(b"headrace/validator-set/1", _pack(members))


# --- header and certificate ---


def _header(text: object) -> dict[str, Any]:
    data = _hex(text, "header")
    fields: Any = _unpack(data, "header")
    if type(fields) is not tuple or len(fields) not in (len(_HEADER) - 1, len(_HEADER)):
        raise ProofError(f"header: not {len(_HEADER) - 1} or {len(_HEADER)} fields")
    has_snapshots = _get(fields[_RULE_SET_AT], "header.rule_set", int) >= _SNAPSHOT_RULE_SET
    if has_snapshots != (len(fields) == len(_HEADER)):
        raise ProofError(f"header: {len(fields)} fields under rule set {fields[_RULE_SET_AT]}")
    if not has_snapshots:
        fields = (*fields, b"")
    header: dict[str, Any] = {}
    for (name, kind), field in zip(_HEADER, fields, strict=True):
        value = _get(field, f"header.{name}", kind)
        empty = name == "snapshot_root" and value == b""
        if (kind is bytes and len(value) != 32 and not empty) or (kind is int and value < 0):
            raise ProofError(f"header.{name}: wrong length or sign")
        header[name] = value
    if header["height"] < 1:
        raise ProofError("header: nothing is proved at genesis")
    header["hash"] = _tagged(b"headrace/header/1", data)
    return header


def _certificate(
    proof: dict[str, Any], header: dict[str, Any], trust: _Trust
) -> tuple[tuple[str, ...], int, int, int]:
    """(signers' names, their weight, quorum weight, total weight) of a certificate that holds."""
    validators = _validators(proof["validators"])
    if _set_digest(validators) != header["validator_set_hash"]:
        raise ProofError("validators: not the set that the header names")
    if validators != _set_at(header["height"], proof, trust):
        raise ProofError("validators: not the trusted set")
    return _signatures(proof["signatures"], header, validators)


def _set_at(height: int, proof: dict[str, Any], trust: _Trust) -> tuple[_Validator, ...]:
    """The set in force at a height: the trusted one, or what the proof's changes made of it, each one proved."""
    current, since = trust.validators, 0
    for at, item in enumerate(_get(proof.get("changes", []), "changes", list)):
        name = f"changes[{at}]"
        change = _object(item, name, ("header", "signatures", "parent_state_root", "leaf", "proof"))
        header = _header(change["header"])
        if header["chain_id"] != trust.chain_id:
            raise ProofError(f"{name}: of another chain")
        if header["height"] < since:
            raise ProofError(f"{name}: block {header['height']} is below height {since}, where its set is in force")
        if _set_digest(current) != header["validator_set_hash"]:
            raise ProofError(f"{name}: the header names another set than the one in force")
        try:
            _signatures(change["signatures"], header, current)
        except ProofError as error:
            raise ProofError(f"{name}: {error}") from None
        leaf = _hex(change["leaf"], f"{name}.leaf")
        root = _hex(change["parent_state_root"], f"{name}.parent_state_root", 32)
        if _state_root(root, _walk(leaf, change["proof"], f"{name}.proof")[2]) != header["state_root"]:
            raise ProofError(f"{name}: the row does not lead to the header's state root")
        follows, first, current = _scheduled(leaf, name)
        if not header["height"] < first <= height:
            raise ProofError(f"{name}: a set from height {first} on, of block {header['height']}, for {height}")
        if trust.window is not None and first != header["height"] + trust.window + 1:
            raise ProofError(f"{name}: a set from height {first} on, of block {header['height']}: not window + 1 later")
        if (at or trust.window is not None) and follows != since:
            raise ProofError(f"{name}: it follows a set from height {follows} on, the one in force is from {since} on")
        since = first
    return current


def _scheduled(leaf: bytes, name: str) -> tuple[int, int, tuple[_Validator, ...]]:
    """(first height of the set before, first height, set) of a row that schedules a set."""
    key, value = _write(leaf, f"{name}.leaf")
    if not key.startswith(_SETS) or value is None:
        raise ProofError(f"{name}.leaf: not a row of the validator sets")
    since = _get(_unpack(key[len(_SETS) :], f"{name}.leaf"), f"{name}.leaf", int)
    row = _get(_unpack(value, f"{name}.leaf"), f"{name}.leaf", tuple)
    if len(row) != 2:
        raise ProofError(f"{name}.leaf: not the first height of a set and another set")
    follows = _get(row[0], f"{name}.leaf", int)
    members: list[_Validator] = []
    for member in _get(row[1], f"{name}.leaf", tuple):
        match member:
            case (str(who), bytes(public_key), int(weight)) if type(weight) is int and weight > 0:
                members.append(_Validator(who, public_key, weight))
            case _:
                raise ProofError(f"{name}.leaf: not a validator")
    if not members or len({member.key for member in members}) != len(members):
        raise ProofError(f"{name}.leaf: no validators, or two with one public key")
    return follows, since, tuple(members)


def _signatures(
    items: object, header: dict[str, Any], validators: tuple[_Validator, ...]
) -> tuple[tuple[str, ...], int, int, int]:
    """What `_certificate` says, of signatures by a set that is known."""
    by_id = {_tagged(b"headrace/validator-id/1", member.key)[-20:]: member for member in validators}
    message = _pack([b"headrace/vote/1", header["chain_id"], _CHECKPOINT, 0, header["height"], header["hash"]])
    signers: list[str] = []
    weight, previous = 0, b""
    for at, item in enumerate(_get(items, "signatures", list)):
        fields = _object(item, f"signatures[{at}]", ("validator", "signature"))
        signer = _hex(fields["validator"], f"signatures[{at}].validator", 20)
        signature = _hex(fields["signature"], f"signatures[{at}].signature", 64)
        if signer <= previous:
            raise ProofError(f"signatures[{at}]: not ascending by validator, or one validator twice")
        member = by_id.get(signer)
        if member is None:
            raise ProofError(f"signatures[{at}]: {signer.hex()} is no validator in force")
        try:
            VerifyKey(member.key).verify(message, signature)
        except (CryptoError, ValueError, TypeError):
            raise ProofError(f"signatures[{at}]: the signature of {member.name!r} is wrong") from None
        signers.append(member.name)
        weight += member.weight
        previous = signer
    total = sum(member.weight for member in validators)
    quorum = total - (total - 1) // 3
    if weight < quorum:
        raise ProofError(f"signatures: weight {weight} of {total}, a quorum weighs {quorum}")
    return tuple(signers), weight, quorum, total


# --- the two kinds of proof ---


def _receipt_claim(proof: dict[str, Any], header: dict[str, Any]) -> dict[str, Any]:
    part = _object(proof["receipt"], "receipt", ("bytes", "proof"))
    data = _hex(part["bytes"], "receipt.bytes")
    position, count, root = _walk(data, part["proof"], "receipt.proof")
    if root != header["receipt_root"] or count != header["transaction_count"]:
        raise ProofError("receipt: does not lead to the header's receipt root and count")
    receipt = _unpack(data, "receipt.bytes")
    match receipt:
        case (bytes(digest), int(status), int(gas_used), bytes(result), str(error), tuple(raw_events)):
            pass
        case _:
            raise ProofError("receipt.bytes: not a receipt")
    part = _object(proof["transaction"], "transaction", ("hash", "proof"))
    if _hex(part["hash"], "transaction.hash", 32) != digest:
        raise ProofError("transaction.hash: not the transaction of the receipt")
    index, count, root = _walk(digest, part["proof"], "transaction.proof")
    if root != header["transaction_root"] or count != header["transaction_count"]:
        raise ProofError("transaction: does not lead to the header's transaction root and count")
    if index != position:
        raise ProofError(f"transaction stands at {index}, its receipt at {position}")
    events: list[dict[str, Any]] = []
    for event in raw_events:
        match event:
            case (bytes(contract), str(name), bytes(values)):
                events.append({"contract": contract.hex(), "name": name, "values": values.hex()})
            case _:
                raise ProofError("receipt.bytes: not an event")
    return {
        "chain_id": header["chain_id"].hex(), "height": header["height"], "time_ms": header["time_ms"],
        "position": position, "transaction_hash": digest.hex(), "status": status, "gas_used": gas_used,
        "result": result.hex(), "error": error, "events": events, "transaction": _body_claim(proof["body"], digest),
    }  # fmt: skip


def _body_claim(value: object, digest: bytes) -> dict[str, Any] | None:
    if value is None:
        return None
    data = _hex(value, "body")
    if _tagged(b"headrace/transaction/1", data) != digest:
        raise ProofError("body: not the body of this transaction")
    match _unpack(data, "body"):
        case (bytes(), int(scheme), bytes(key), bytes(), int(expiry), bytes(target), str(method), bytes(arguments), _):
            return {
                "scheme": scheme, "public_key": key.hex(), "expiry": expiry, "target": target.hex(), "method": method,
                "arguments": arguments.hex(),
            }  # fmt: skip
    raise ProofError("body: not a transaction body")


def _value_claim(proof: dict[str, Any], header: dict[str, Any]) -> dict[str, Any]:
    key = _hex(proof["key"], "key")
    root = _hex(proof["parent_state_root"], "parent_state_root", 32)
    absences = _get(proof["absences"], "absences", list)
    written = proof["write"]
    value: bytes | None = None
    # A state root is the hash of its parent and one block's writes, so the number of links is the number of heights.
    first = header["height"] - len(absences) + (0 if written is not None else 1)
    if written is None:
        if first != 1 or root != _ZERO:
            raise ProofError(f"write: none, so the absences must begin at height 1 with the empty state, not {first}")
    else:
        if first < 1:
            raise ProofError(f"absences: {len(absences)} of them at height {header['height']}")
        part = _object(written, "write", ("leaf", "proof"))
        leaf = _hex(part["leaf"], "write.leaf")
        found, value = _write(leaf, "write.leaf")
        if found != key:
            raise ProofError("write.leaf: a write of another key")
        root = _state_root(root, _walk(leaf, part["proof"], "write.proof")[2])
    for at, item in enumerate(absences):
        root = _state_root(root, _absence_root(item, key, f"absences[{at}]"))
    if root != header["state_root"]:
        raise ProofError("the writes do not lead to the header's state root")
    return {
        "chain_id": header["chain_id"].hex(), "height": header["height"], "time_ms": header["time_ms"],
        "key": key.hex(), "value": None if value is None else value.hex(),
        "written_at": None if written is None else first,
    }  # fmt: skip


def _state_root(parent: bytes, writes_root: bytes) -> bytes:
    return _tagged(b"headrace/state-root/1", parent + writes_root)


def _absence_root(value: object, key: bytes, name: str) -> bytes:
    """The writes root of a block that provably did not write `key`."""
    sides = _object(value, name, ("left", "right"))
    if sides["left"] is None and sides["right"] is None:
        return hashlib.sha256(b"\x02" + bytes(8)).digest()
    roots: list[tuple[int, int, bytes]] = []
    for side in ("left", "right"):
        if sides[side] is None:
            continue
        part = _object(sides[side], f"{name}.{side}", ("leaf", "proof"))
        leaf = _hex(part["leaf"], f"{name}.{side}.leaf")
        neighbour, _ = _write(leaf, f"{name}.{side}.leaf")
        if not (neighbour < key if side == "left" else key < neighbour):
            raise ProofError(f"{name}.{side}: the key does not sort on its other side")
        roots.append(_walk(leaf, part["proof"], f"{name}.{side}.proof"))
    index, count, root = roots[0]
    if sides["left"] is None:
        adjacent = index == 0
    elif sides["right"] is None:
        adjacent = index == count - 1
    else:
        adjacent = roots[1] == (index + 1, count, root)
    if not adjacent:
        raise ProofError(f"{name}: the neighbours leave room for the key")
    return root


def _write(leaf: bytes, name: str) -> tuple[bytes, bytes | None]:
    match _unpack(leaf, name):
        case (bytes(key), None):
            return key, None
        case (bytes(key), bytes(value)):
            return key, value
    raise ProofError(f"{name}: not a write")


# --- Merkle trees ---


def _walk(leaf: bytes, value: object, name: str) -> tuple[int, int, bytes]:
    """(index, count, root) that an inclusion proof leads to; its shape must be the one its count demands."""
    proof = _object(value, name, ("index", "count", "siblings"))
    index, count = _get(proof["index"], f"{name}.index", int), _get(proof["count"], f"{name}.count", int)
    if not 0 <= index < count < 2**64:
        raise ProofError(f"{name}: leaf {index} of {count}")
    current = hashlib.sha256(b"\x00" + leaf).digest()
    at, width = index, count
    for level in _get(proof["siblings"], f"{name}.siblings", list):
        siblings = _hex(level, f"{name}.siblings")
        place = at % _ARITY
        if width <= 1 or len(siblings) != 32 * (min(_ARITY, width - (at - place)) - 1):
            raise ProofError(f"{name}: siblings do not fit {count} leaves")
        before, after = siblings[: 32 * place], siblings[32 * place :]
        current = hashlib.sha256(b"\x01" + before + current + after).digest()
        at //= _ARITY
        width = -(-width // _ARITY)
    if width != 1:
        raise ProofError(f"{name}: too few levels for {count} leaves")
    return index, count, hashlib.sha256(b"\x02" + count.to_bytes(8, "big") + current).digest()


# --- encoding ---


def _tagged(tag: bytes, data: bytes) -> bytes:
    return hashlib.sha256(bytes((len(tag),)) + tag + data).digest()


def _pack(value: object) -> bytes:
    try:
        return bytes(msgpack.packb(value, use_bin_type=True))
    except (ValueError, OverflowError) as error:
        raise ProofError(f"a number or text that has no encoding: {error}") from None


def _unpack(data: bytes, name: str) -> object:
    """The value of canonical msgpack; lists become tuples."""
    try:
        value = msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True)
        canonical = msgpack.packb(value, use_bin_type=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise ProofError(f"{name}: cannot be decoded: {error or type(error).__name__}") from None
    if canonical != data:
        raise ProofError(f"{name}: not the canonical encoding")
    return value


# --- JSON ---


def _get(value: object, name: str, kind: type) -> Any:
    if type(value) is not kind:
        raise ProofError(f"{name}: {type(value).__name__} where {kind.__name__} is required")
    return value


def _object(value: object, name: str, fields: tuple[str, ...]) -> dict[str, Any]:
    found = _get(value, name, dict)
    for field in fields:
        if field not in found:
            raise ProofError(f"{name}: lacks {field!r}")
    for field in found:
        if field not in fields:
            raise ProofError(f"{name}: unknown field {field!r:.80}")
    return dict(found)


def _hex(value: object, name: str, length: int | None = None) -> bytes:
    text = _get(value, name, str)
    if not _HEX.fullmatch(text):
        raise ProofError(f"{name}: not lower-case hex")
    data = bytes.fromhex(text)
    if length is not None and len(data) != length:
        raise ProofError(f"{name}: {len(data)} bytes, must be {length}")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice in one object")
    return found


def _load(path: str) -> object:
    file = Path(path)
    if file.stat().st_size > DOCUMENT_BYTES_MAX:
        raise ValueError(f"more than {DOCUMENT_BYTES_MAX} bytes")
    return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_unique)


# --- command line ---


def main(arguments: list[str]) -> int:
    """Verify files; prints the verdict and returns the exit code."""
    as_json = "--json" in arguments
    paths = [item for item in arguments if item != "--json"]
    if len(paths) != 2 or any(item.startswith("-") for item in paths):
        sys.stderr.write("usage: python -m chain.offline genesis.json proof.json [--json]\n")
        return 2
    documents: list[object] = []
    for path in paths:
        try:
            documents.append(_load(path))
        except (OSError, ValueError, RecursionError) as error:
            return _answer(as_json, 2, {"valid": False, "reason": f"{path}: cannot be read: {error}"})
    try:
        verdict = verify_proof(documents[1], documents[0])
    except TrustError as error:
        return _answer(as_json, 2, {"valid": False, "reason": str(error)})
    except ProofError as error:
        return _answer(as_json, 1, {"valid": False, "reason": str(error)})
    return _answer(as_json, 0, {"valid": True, **asdict(verdict)})


def _answer(as_json: bool, code: int, answer: dict[str, Any]) -> int:
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2, sort_keys=True) + "\n")
    elif code:
        sys.stdout.write(f"REFUSED: {answer['reason']}\n")
    else:
        sys.stdout.write(f"VALID: {answer['kind']} proof at height {answer['height']} of chain {answer['chain_id']}\n")
        signers = ", ".join(answer["signers"])
        sys.stdout.write(f"  signed by {signers} (weight {answer['weight']}, a quorum weighs {answer['quorum']})\n")
        for name, value in sorted(answer["claim"].items()):
            sys.stdout.write(f"  {name}: {value if isinstance(value, str) else json.dumps(value, sort_keys=True)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
