"""Contract values as JSON: what goes out comes back the same, and nothing else is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import INTEGER_BITS_MAX, VALUE_DEPTH_MAX, Value, pack, unpack
from chain.errors import BadInput
from chain.rpc.values import value_from_json, value_to_json

_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**255), 2**255) | st.binary(max_size=40) | st.text(max_size=20)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_there_and_back_through_json_text(value: Value) -> None:
    document = json.loads(json.dumps(value_to_json(value)))
    assert value_from_json(document) == value
    assert pack(value_from_json(document)) == pack(value)
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    ("value", "document"),
    [
        (2**53 - 1, 2**53 - 1), (2**53, {"int": "9007199254740992"}), (-(2**53), {"int": "-9007199254740992"}),
        (b"", {"bytes": "0x"}), ("0x12", "0x12"), ((1, (b"\x01",)), [1, [{"bytes": "0x01"}]]), (None, None),
        (True, True),
    ],
)  # fmt: skip
def test_forms(value: Value, document: Any) -> None:
    assert value_to_json(value) == document


@pytest.mark.parametrize(
    "document",
    [
        1.0, 1.5, {}, {"int": 5}, {"int": "0x5"}, {"int": "1 "}, {"int": "+1"}, {"int": ""}, {"int": "-"},
        {"int": "1_0"}, {"int": "٣"}, {"int": "9" * 81}, {"bytes": "12"}, {"bytes": "0x1"}, {"bytes": "0x1g"},
        {"bytes": 5}, {"bytes": "0x", "int": "1"}, {"str": "a"}, 2**INTEGER_BITS_MAX, {"int": str(2**INTEGER_BITS_MAX)},
        [[1.5]], json.loads("[" * (VALUE_DEPTH_MAX + 1) + "]" * (VALUE_DEPTH_MAX + 1)),
    ],
    ids=lambda document: repr(document)[:30],
)  # fmt: skip
def test_what_is_no_value_is_refused_with_its_place(document: Any) -> None:
    with pytest.raises(BadInput, match=r"^argument") as caught:
        value_from_json(document, "argument")
    assert caught.value.code == "invalid_params"
