"""Asking for blocks: only with a reason, a bounded range, one at a time."""

from __future__ import annotations

from chain.types import Height
from consensus.catch_up import FETCH_BLOCKS_MAX, CatchUp
from consensus.effects import FetchBlocks
from consensus.epoch import Epoch
from tests.unit.consensus.members import Chain

CHAIN = Chain()
IDS = CHAIN.validators.ids()


def request(catch_up: CatchUp, low: int, ordered: int | None = None) -> FetchBlocks | None:
    return catch_up.request(low=Height(low), ordered=Height(low if ordered is None else ordered))


def test_without_a_claim_nothing_is_asked() -> None:
    assert request(CatchUp(Epoch(CHAIN.validators)), 5) is None


def test_one_block_of_delay_is_given_time() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 6)
    assert request(catch_up, 5) is None
    catch_up.stall(missing=False)
    assert request(catch_up, 5) == FetchBlocks(first=Height(6), last=Height(6), sources=(IDS[0],))


def test_what_is_ordered_here_is_given_time() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 8)
    assert request(catch_up, 5, ordered=8) is None
    assert request(catch_up, 5, ordered=7) is not None


def test_a_range_is_bounded_and_one_is_open_at_a_time() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 1_000)
    assert request(catch_up, 0) == FetchBlocks(first=Height(1), last=Height(FETCH_BLOCKS_MAX), sources=(IDS[0],))
    assert request(catch_up, 0) is None
    catch_up.advance(Height(FETCH_BLOCKS_MAX - 1))
    assert request(catch_up, FETCH_BLOCKS_MAX - 1) is None
    catch_up.advance(Height(FETCH_BLOCKS_MAX))
    following = request(catch_up, FETCH_BLOCKS_MAX)
    assert following is not None
    assert following.first == FETCH_BLOCKS_MAX + 1


def test_what_more_than_f_claim_goes_before_what_one_claims() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 2**62)
    catch_up.note(IDS[1], 9)
    catch_up.note(IDS[2], 8)
    assert catch_up.corroborated() == 9
    fetch = request(catch_up, 5)
    assert fetch is not None
    assert (fetch.last, fetch.sources) == (9, tuple(sorted((IDS[0], IDS[1]))))


def test_a_liar_does_not_hold_up_a_request_that_others_confirm() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 2**62)
    assert request(catch_up, 5) is not None
    catch_up.note(IDS[1], 9)
    catch_up.note(IDS[2], 9)
    fetch = request(catch_up, 5)
    assert fetch is not None
    assert fetch.last == 9
    assert request(catch_up, 5) is None


def test_a_claim_that_led_nowhere_is_dropped() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 2**62)
    request(catch_up, 5)
    catch_up.stall(missing=True)
    assert not catch_up.is_behind
    assert request(catch_up, 5) is None


def test_slow_execution_of_blocks_that_have_come_is_no_reason_to_ask_again() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(IDS[0], 9)
    request(catch_up, 5)
    catch_up.stall(missing=False)
    assert catch_up.is_behind
    assert request(catch_up, 5) is None


def test_claims_are_kept_of_members_only_and_forgotten_when_reached() -> None:
    catch_up = CatchUp(Epoch(CHAIN.validators))
    catch_up.note(Chain(5).keys[4].validator_id, 9)
    assert not catch_up.is_behind
    catch_up.note(IDS[0], 9)
    catch_up.advance(Height(9))
    assert not catch_up.is_behind
