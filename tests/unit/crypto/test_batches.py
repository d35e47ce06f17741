"""Batches of signatures: whoever checks them, the verdicts are those of the accept rule."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from chain.crypto import Verifier, ed25519_lanes
from chain.crypto.batches import LANES_MIN, LIBRARIES, _agrees, _trial, _with_lanes, checker_of
from chain.crypto.ed25519 import verify
from chain.crypto.schemes import Item, PrivateKey, Scheme, verify_batch
from chain.errors import ConfigError
from tests.signatures.__main__ import by_openssl
from tests.signatures.cases import Case, Cases
from tests.unit.crypto.test_ed25519 import RFC_8032

# Where the processor lacks the instructions these tests are about the libraries, which stand in then.
CHECKER = checker_of("auto")


def many(keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
    """What stands behind the lanes on a machine without them."""
    return [verify(*one) for one in zip(keys, messages, signatures, strict=True)]


def items_of(cases: Sequence[Case]) -> list[Item]:
    return [(Scheme.ED25519, case.public_key, case.message, case.signature) for case in cases]


def test_lanes_are_used_where_the_processor_has_them() -> None:
    assert CHECKER.name == ("lanes" if ed25519_lanes.is_supported() else "libraries")
    assert checker_of("never") is LIBRARIES
    with pytest.raises(ConfigError, match=r"crypto\.kernel is 'fast', must be one of auto, never"):
        checker_of("fast")


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 8, 9, 64, 300])
def test_every_kind_of_signature_is_judged_as_by_two_libraries(size: int) -> None:
    supply = Cases(size)
    kinds: Counter[str] = Counter()
    accepted = 0
    for _ in range(-(-300 // size)):
        cases = [supply.next() for _ in range(size)]
        found = CHECKER.check(items_of(cases))
        for case, verdict in zip(cases, found, strict=True):
            assert verdict == verify(case.public_key, case.message, case.signature) == by_openssl(case), case
            kinds[case.kind] += 1
            accepted += verdict
    assert len(kinds) == 10
    assert accepted > 50


def test_signatures_that_are_refused_spoil_no_other() -> None:
    """Each kind of bad one beside seven good ones, in each place: keys that are no points, huge S, small order."""
    supply = Cases(7)
    good = [case for case in (supply.next() for _ in range(200)) if case.kind == "sound"][:7]
    bad = {case.kind: case for case in (supply.next() for _ in range(300)) if not verify(*case[1:])}
    assert len(bad) >= 8
    for place, case in enumerate(bad.values()):
        cases = [*good[: place % 8], case, *good[place % 8 :]]
        assert CHECKER.check(items_of(cases)) == [one is not case for one in cases], case.kind
        cases = good + [case] * 9 + good
        assert CHECKER.check(items_of(cases)) == [one is not case for one in cases], case.kind


def test_vectors_of_rfc_8032() -> None:
    """Section 7.1: tests 1 to 3 and SHA(abc), in one batch, each also with one bit of S changed."""
    items: list[Item] = []
    for _, key, message, signed in RFC_8032:
        signature = bytes.fromhex(signed)
        items.append((Scheme.ED25519, bytes.fromhex(key), message, signature))
        spoilt = signature[:40] + bytes((signature[40] ^ 1,)) + signature[41:]
        items.append((Scheme.ED25519, bytes.fromhex(key), message, spoilt))
    assert CHECKER.check(items) == verify_batch(items) == [True, False] * 4


def test_schemes_are_mixed_in_one_batch() -> None:
    keys = [PrivateKey.generate(scheme) for scheme in (Scheme.ED25519, Scheme.SECP256K1) * 6]
    items: list[Item] = [(key.scheme, key.public_key, bytes(32), key.sign(bytes(32))) for key in keys]
    items[3] = (items[3][0], items[3][1], b"\x01" * 32, items[3][3])
    items[6] = (items[6][0], items[6][1], b"\x01" * 32, items[6][3])
    items.append((9, b"", b"", b""))
    expected = [at not in (3, 6, 12) for at in range(13)]
    assert CHECKER.check(items) == _with_lanes(many)(items) == expected
    few = items[: 2 * LANES_MIN - 3]
    assert CHECKER.check(few) == expected[: len(few)]
    assert CHECKER.check([]) == []


def test_a_kernel_that_judges_otherwise_is_not_used() -> None:
    assert _agrees(many)
    assert not _agrees(lambda keys, messages, signatures: [True] * len(keys))
    assert not _agrees(lambda keys, messages, signatures: [False] * len(keys))
    for place in range(0, len(_trial()), 9):
        assert not _agrees(lambda keys, messages, signatures, place=place: [  # type: ignore[misc]
            verdict != (at == place) for at, verdict in enumerate(many(keys, messages, signatures))
        ])


def test_threads_share_nothing() -> None:
    async def scenario() -> None:
        supply = Cases(11)
        verifier = Verifier(threads=3, check=CHECKER.check)
        try:
            batches = [items_of([supply.next() for _ in range(40)]) for _ in range(12)]
            found = await asyncio.gather(*[verifier.verify(batch) for batch in batches])
            assert found == [verify_batch(batch) for batch in batches]
        finally:
            await verifier.close()

    asyncio.run(scenario())
