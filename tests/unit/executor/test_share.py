"""One executor's share: what it says of each transaction, and what is no answer at all."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from chain.codec import encode
from chain.model.merkle import leaf_hashes, pack_writes, write_leaves
from executor.outcome import ShareOutcome
from executor.share import integers, is_well_formed
from executor.transactions import join_leaves
from executor.validate import ShareResult
from tests.unit.executor.shares import Bench


def test_writes_ascend_and_lead_back_to_their_transactions() -> None:
    """Against the oracle, one transaction at a time: random shares of random blocks."""
    for seed in range(12):
        draw = random.Random(seed)
        bench = Bench()
        block = bench.block([_any_call(bench, draw) for _ in range(30)])
        positions = sorted(draw.sample(range(30), draw.randrange(1, 31)))
        share = bench.share(block, positions)
        keys = share.write_keys
        assert list(keys) == sorted(keys)
        refs, at = integers(share.write_refs), 0
        assert sorted(refs) == list(range(len(keys)))
        final: dict[bytes, bytes | None] = {}
        for index, count in enumerate(integers(share.write_counts)):
            own = [block.transactions[position] for position in positions[: index + 1]]
            expected = bench.serial(bench.block(own))  # these transactions and no others
            after = dict(expected.writes)
            written = {keys[ref]: share.write_values[ref] for ref in refs[at : at + count]}
            assert len(written) == count, "a transaction writes a key once"
            assert {**final, **written} == after, (seed, index)
            final, at = after, at + count
        assert share.receipts == tuple(expected.receipts)
        _assert_writers_ascend(share)


def _assert_writers_ascend(share: ShareOutcome) -> None:
    """Equal keys stand in block order."""
    writer, at = {}, 0
    for index, count in enumerate(integers(share.write_counts)):
        writer.update(dict.fromkeys(integers(share.write_refs)[at : at + count], index))
        at += count
    for place in range(1, len(share.write_keys)):
        if share.write_keys[place - 1] == share.write_keys[place]:
            assert writer[place - 1] < writer[place]


def _any_call(bench: Bench, draw: random.Random) -> bytes:
    method = draw.choice(("add", "within", "put", "drop", "copy", "total", "add_read", "see"))
    key, amount, other = draw.randrange(4), draw.randrange(-5, 9), draw.randrange(4)
    match method:
        case "within":
            return bench.call(method, key, amount, -5, 20)
        case "drop":
            return bench.call(method, key)
        case "total":
            return bench.call(method, other)
        case "copy":
            return bench.call(method, key, other)
        case "see":
            return bench.call(method, key, amount, other)
    return bench.call(method, key, amount)


def test_leaves_are_those_of_the_last_writes() -> None:
    bench = Bench()
    raws = [
        bench.call("put", 2, 1), bench.call("put", 1, 1), bench.call("put", 2, 7), bench.call("drop", 1),
        bench.call("add", 3, 4), bench.call("add", 3, 5),
    ]  # fmt: skip
    share = bench.share(bench.block(raws), range(6))
    writes = sorted(dict(zip(share.write_keys, share.write_values, strict=True)).items())
    assert [value for _, value in writes] == [None, b"\x07", b"\x09"]
    assert share.leaves == tuple(write_leaves(writes))
    assert share.leaf_hashes == leaf_hashes(share.leaves)
    assert join_leaves(share.leaves) == pack_writes(writes)
    assert share.receipt_hashes == leaf_hashes(share.receipts)


def test_an_empty_share() -> None:
    bench = Bench()
    share = bench.share(bench.block([]), [])
    assert (len(share.receipts), share.write_keys, share.leaves, share.read_marks) == (0, (), (), b"")


def test_an_answer_survives_its_encoding() -> None:
    bench = Bench()
    raws = [bench.call("add", 1, 2**60), bench.call("total", 1), bench.call("see", 1, 1, 2)]
    share = bench.share(bench.block(raws), range(3))
    assert (len(share.adds), len(share.scans)) == (2, 1)
    assert msgspec.msgpack.decode(encode(share), type=ShareOutcome) == share


def test_conflicts_are_reads_and_scans_of_what_the_share_wrote() -> None:
    bench = Bench()
    block = bench.block([
        bench.call("copy", 1, 1), bench.call("put", 1, 5), bench.call("copy", 1, 2), bench.call("total", 3),
        bench.call("total", 4), bench.call("copy_seen", 9, 9),
    ])  # fmt: skip
    assert bench.share(block, range(6)).conflicts == 3  # the second copy, both totals
    assert bench.share(block, [0, 2, 3, 4, 5]).conflicts == 0
    assert bench.share(bench.block([bench.call("add", 1, 1)] * 5), range(5)).conflicts == 0


def test_reads_are_cut_into_transactions() -> None:
    bench = Bench()
    raws = [bench.call("put", 1, 5), bench.call("copy", 1, 2), bench.call("total", 3), bench.call("copy", 7, 2)]
    block = bench.block(raws)
    share = bench.share(block, [0, 1, 3])
    marks = integers(share.read_marks)
    assert marks[2] == len(share.read_keys)
    spans = zip([0, *marks[:-1]], marks, strict=True)
    sums = [[key for key in share.read_keys[first:last] if b"sums" in key] for first, last in spans]
    assert sums == [[], [bench.key("sums", 1)], [bench.key("sums", 7)]]
    assert bench.share(block, range(4)).scans == ((2, bench.key("sums")),)


# --- what is no answer ---


@dataclass(frozen=True, slots=True)
class Misfit:
    """A way to spoil an answer, and the fields it spoils."""

    name: str
    fields: str
    spoil: Callable[[Any], Any]


def _words(change: Callable[[list[int]], list[int]]) -> Callable[[bytes], bytes]:
    return lambda data: array("i", change(list(integers(data)))).tobytes()


ARRAYS = "read_marks write_counts write_refs"
HASHES = "receipt_hashes leaf_hashes"
TUPLES = "receipts gas write_values leaves"
KEYS = "read_keys write_keys"
MISFITS = [
    Misfit("drops the last", f"{TUPLES} {KEYS}", lambda items: items[:-1]),
    Misfit("drops the first", f"{TUPLES} {KEYS}", lambda items: items[1:]),
    Misfit("says one twice", f"{TUPLES} {KEYS}", lambda items: (*items, items[-1])),
    Misfit("is empty", f"{TUPLES} {KEYS}", lambda items: ()),
    Misfit("lacks one", HASHES, lambda hashes: hashes[32:]),
    Misfit("has one more", HASHES, lambda hashes: hashes + bytes(32)),
    Misfit("is empty", HASHES, lambda hashes: b""),
    Misfit("is torn", HASHES, lambda hashes: hashes[:-1]),
    Misfit("drops the last", ARRAYS, _words(lambda words: words[:-1])),
    Misfit("drops the first", ARRAYS, _words(lambda words: words[1:])),
    Misfit("has one more", ARRAYS, _words(lambda words: [*words, words[-1]])),
    Misfit("is empty", ARRAYS, lambda data: b""),
    Misfit("is torn", ARRAYS, lambda data: data[:-1]),
    Misfit("has a byte more", ARRAYS, lambda data: data + b"\x00"),
    Misfit("is negative", ARRAYS, _words(lambda words: [-1, *words[1:]])),
    Misfit("is negative in sum right", "write_counts", _words(lambda words: [-1, sum(words) + 1, 0])),
    Misfit("is negative", "gas", lambda gas: (*gas[:-1], -1)),
    Misfit("goes back", "read_marks", _words(lambda words: [words[1], words[0], *words[2:]])),
    Misfit("goes beyond", "read_marks", _words(lambda words: [words[0], words[-1] + 1, words[-1]])),
    Misfit("ends early", "read_marks", _words(lambda words: [*words[:-1], words[-1] - 1])),
    Misfit("is too large", ARRAYS, _words(lambda words: [*words[:-1], words[-1] + len(words)])),
    Misfit("says one twice", "write_refs", _words(lambda words: [words[1], *words[1:]])),
    Misfit("is beyond", "scans", lambda scans: ((3, b""),)),
    Misfit("is negative", "scans", lambda scans: ((-1, b""),)),
    Misfit("is beyond", "adds", lambda adds: ((3, b"k", 1, 0, 1),)),
    Misfit("is negative", "adds", lambda adds: ((-1, b"k", 1, 0, 1),)),
    Misfit("has another key", "write_keys", lambda keys: (*keys[:-1], b"\xff")),
]  # fmt: skip


@pytest.fixture(scope="module")
def answer() -> ShareOutcome:
    """Three transactions that read, scan, add and write; one key is written twice."""
    bench = Bench()
    raws = [bench.call("add", 1, 1), bench.call("add_read", 1, 4), bench.call("total", 2)]
    share = bench.share(bench.block(raws), range(3))
    marks = integers(share.read_marks)
    assert 0 < marks[0] < marks[1] < marks[2]
    assert all(integers(share.write_counts))
    assert len(set(share.write_keys)) == len(share.write_keys) - 1
    return share


@pytest.mark.parametrize(
    ("field", "misfit"),
    [pytest.param(field, misfit, id=f"{field} {misfit.name}") for misfit in MISFITS for field in misfit.fields.split()],
)
def test_parts_that_do_not_fit_are_told(answer: ShareOutcome, field: str, misfit: Misfit) -> None:
    assert is_well_formed(answer, range(3))
    wrong = misfit.spoil(getattr(answer, field))
    assert wrong != getattr(answer, field)
    spoiled: ShareOutcome = msgspec.structs.replace(answer, **{field: wrong})
    assert not is_well_formed(spoiled, range(3))


def test_an_answer_to_another_number_of_transactions_is_told(answer: ShareOutcome) -> None:
    assert not is_well_formed(answer, range(2))
    assert not is_well_formed(answer, range(4))
    assert not is_well_formed(answer, [])


def test_validation_does_not_stumble_over_what_is_well_formed(answer: ShareOutcome) -> None:
    """Random changes inside an answer: whatever passes the check can be validated without an error of ours."""
    bench = Bench()
    raws = [bench.call("add", 1, 1), bench.call("add_read", 1, 4), bench.call("total", 2), bench.call("put", 1, 3)]
    block = bench.block(raws)
    good, other = bench.shares(block, [[0, 1, 2], [3]])
    passed = 0
    for seed in range(400):
        draw = random.Random(seed)
        spoiled = _shaken(good.outcome, draw)
        if is_well_formed(spoiled, range(3)):
            passed += 1
            bench.validated(block, [ShareResult(good.positions, spoiled), other])
    assert passed > 100


def _shaken(answer: ShareOutcome, draw: random.Random) -> ShareOutcome:
    field = draw.choice((*ARRAYS.split(), *TUPLES.split(), "write_keys", "read_keys", "scans", "adds"))
    value = getattr(answer, field)
    if isinstance(value, bytes):
        words = list(integers(value))
        words[draw.randrange(len(words))] = draw.choice((-2, -1, 0, 1, 2, 10**6))
        value = array("i", words).tobytes()
    elif field == "scans":
        value = ((draw.randrange(3), draw.choice((b"", b"x"))),)
    elif field == "adds":
        index, key = draw.randrange(3), draw.choice((b"no", answer.write_keys[0], answer.read_keys[0]))
        value = ((index, key, draw.choice((None, 5, -(2**62))), draw.choice((-9, 9)), draw.choice((-9, 9))),)
    else:
        items = list(value)
        draw.shuffle(items)
        value = tuple(items)
    return msgspec.structs.replace(answer, **{field: value})
