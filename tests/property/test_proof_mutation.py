"""Every single field of a proof counts: changed in any way, the proof is refused or still proves exactly the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.offline import ProofError, verify_proof
from tests.unit.model.proofs_of import Json, chain_with_writes, documents, genesis_of

CHAIN = chain_with_writes()
GENESIS = genesis_of(CHAIN)
DOCUMENTS = documents(CHAIN)
_NAMES = sorted(DOCUMENTS)

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value in a document, leaves and containers."""
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from places(item, (*path, at))


def at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def with_value(document: Json, path: Path, value: Any) -> Json:
    changed = copy.deepcopy(document)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def without(document: Json, path: Path) -> Json:
    changed = copy.deepcopy(document)
    del at(changed, path[:-1])[path[-1]]
    return changed


def other_values(value: Any) -> list[Any]:
    """Changes of one leaf: small, large, and of another type."""
    if isinstance(value, bool) or value is None:
        return [not value, 0, "", "00", {}, []]
    if isinstance(value, int):
        numbers = [value + 1, value - 1, -value - 1, value + 2**32, value * 16 + 1, float(value)]
        return [*numbers, str(value), bool(value), None]
    if isinstance(value, str):
        changed = [value + "00", value[2:], "00" + value, value[::-1], value.upper(), value + " ", None, 0, [value]]
        for place in {0, 1, len(value) // 2, len(value) - 1} & set(range(len(value))):
            changed.append(value[:place] + ("1" if value[place] != "1" else "2") + value[place + 1 :])
        return changed
    return [None, 0, "", {}, [], [value]]


def check(name: str, changed: Json) -> None:
    original = DOCUMENTS[name]
    if json.dumps(changed, sort_keys=True) == json.dumps(original, sort_keys=True):
        return
    try:
        verdict = verify_proof(changed, GENESIS)
    except ProofError:
        return
    # A quorum without one of its signatures is still a quorum, and so far nothing else may be missing.
    assert verdict.claim == original["claim"]
    assert {**changed, "signatures": None} == {**original, "signatures": None}
    assert len(changed["signatures"]) < len(original["signatures"])


@pytest.mark.parametrize("name", _NAMES)
def test_the_originals_hold(name: str) -> None:
    assert verify_proof(DOCUMENTS[name], GENESIS).claim == DOCUMENTS[name]["claim"]


@pytest.mark.parametrize("name", _NAMES)
def test_no_single_change_passes(name: str) -> None:
    document = DOCUMENTS[name]
    for path in places(document):
        check(name, without(document, path))
        for value in other_values(at(document, path)):
            check(name, with_value(document, path, value))


@given(st.sampled_from(_NAMES), st.data())
def test_parts_of_proofs_do_not_mix(name: str, data: st.DataObject) -> None:
    """A part of one document in the place of another's, or of another place in the same."""
    source = DOCUMENTS[data.draw(st.sampled_from(_NAMES))]
    part = at(source, data.draw(st.sampled_from(list(places(source)))))
    path = data.draw(st.sampled_from(list(places(DOCUMENTS[name]))))
    check(name, with_value(DOCUMENTS[name], path, part))


@given(st.sampled_from(_NAMES), st.data())
def test_any_bit_of_any_hex_counts(name: str, data: st.DataObject) -> None:
    document = DOCUMENTS[name]
    leaves = [path for path in places(document) if isinstance(at(document, path), str) and len(at(document, path)) > 1]
    path = data.draw(st.sampled_from(leaves))
    text: str = at(document, path)
    place = data.draw(st.integers(0, len(text) - 1))
    digit = data.draw(st.sampled_from("0123456789abcdef"))
    check(name, with_value(document, path, text[:place] + digit + text[place + 1 :]))
