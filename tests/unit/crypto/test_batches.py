"""Batches of signatures: whoever checks them, the verdicts are those of the accept rule."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from chain.crypto import Verifier, ed25519_lanes, secp256k1, secp256k1_lanes
from chain.crypto.batches import _TRIALS, LANES_MIN, LIBRARIES, Many, _agrees, _with_lanes, checker_of
from chain.crypto.ed25519 import verify
from chain.crypto.schemes import Item, PrivateKey, Scheme, verify_batch
from chain.errors import ConfigError
from tests.signatures.__main__ import by_openssl
from tests.signatures.cases import Case, Cases
from tests.signatures.ecdsa_cases import recovered
from tests.unit.crypto.test_ed25519 import RFC_8032

# Where the processor lacks the instructions these tests are about the libraries, which stand in then.
CHECKER = checker_of("auto")


def one_by_one(check: Callable[[bytes, bytes, bytes], bool]) -> Many:
    """What stands behind the lanes on a machine without them."""
    return lambda keys, messages, signatures: [check(*one) for one in zip(keys, messages, signatures, strict=True)]


ONE_BY_ONE: dict[int, Many] = {Scheme.ED25519: one_by_one(verify), Scheme.SECP256K1: one_by_one(secp256k1.verify)}


def items_of(cases: Sequence[Case]) -> list[Item]:
    return [(Scheme.ED25519, case.public_key, case.message, case.signature) for case in cases]


def test_lanes_are_used_where_the_processor_has_them() -> None:
    assert CHECKER.name == ("lanes" if ed25519_lanes.is_supported() else "libraries")
    if ed25519_lanes.is_supported():  # for both schemes: a kernel that fails its trial gives way silently
        assert _agrees(Scheme.ED25519, ed25519_lanes.verify_many)
        assert _agrees(Scheme.SECP256K1, secp256k1_lanes.verify_many)
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
    assert CHECKER.check(items) == _with_lanes(ONE_BY_ONE)(items) == _with_lanes({})(items) == expected
    few = items[: 2 * LANES_MIN - 3]
    assert CHECKER.check(few) == expected[: len(few)]
    assert CHECKER.check([]) == []


@pytest.mark.parametrize("scheme", Scheme, ids=lambda scheme: scheme.name.lower())
def test_a_kernel_that_judges_otherwise_is_not_used(scheme: Scheme) -> None:
    many = ONE_BY_ONE[scheme]
    assert _agrees(scheme, many)
    assert not _agrees(scheme, lambda keys, messages, signatures: [True] * len(keys))
    assert not _agrees(scheme, lambda keys, messages, signatures: [False] * len(keys))
    for place in range(0, len(_TRIALS[scheme]()), 9):
        assert not _agrees(scheme, lambda keys, messages, signatures, place=place: [  # type: ignore[misc]
            verdict != (at == place) for at, verdict in enumerate(many(keys, messages, signatures))
        ])


def test_what_is_tried_before_a_kernel_of_secp256k1_is_used() -> None:
    """An r that stands for an x above n, the point at infinity, keys off the curve: each must be able to fail."""
    trial = _TRIALS[Scheme.SECP256K1]()
    accepted = [one for one in trial if secp256k1.verify(*one)]
    beyond = [one for one in accepted if one[0] in [recovered_above(one[1], one[2], which) for which in (2, 3)]]
    assert (len(trial), len(accepted), len(beyond)) == (133, 29, 6)


def recovered_above(digest: bytes, signature: bytes, which: int) -> bytes | None:
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    return recovered(r, s, which, digest)


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
