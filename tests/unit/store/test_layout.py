"""Parts of a value, read singly and together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.store.layout import (
    count_parts,
    height_key,
    pack_integers,
    pack_parts,
    part,
    part_view,
    unpack_integers,
    unpack_parts,
)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_parts_come_back_one_by_one_and_together(parts: list[bytes]) -> None:
    for value in (pack_parts(parts), memoryview(pack_parts(parts))):
        assert count_parts(value) == len(parts)
        assert unpack_parts(value) == parts
        assert [part(value, at) for at in range(len(parts))] == parts
        for wrong in (-1, len(parts)):
            with pytest.raises(IndexError):
                part(value, wrong)


def test_parts_nest_without_copying() -> None:
    value = pack_parts([b"a", pack_parts([b"b", b"c"])])
    assert part(part_view(value, 1), 1) == b"c"


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_integers(values: list[int]) -> None:
    assert unpack_integers(pack_integers(values)) == tuple(values)


def test_heights_sort_as_numbers() -> None:
    heights = [0, 1, 255, 256, 2**32, 2**63 - 1]
    assert sorted(map(height_key, reversed(heights))) == list(map(height_key, heights))
