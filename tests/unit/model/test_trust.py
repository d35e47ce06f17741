"""Proofs over changes of the validator set: the genesis alone is trusted, every later set is proved."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey

from chain.codec import decode, encode, pack
from chain.errors import BadInput, DecodeError
from chain.model.block import Certificate, Header, VoteSignature, decode_header, encode_header
from chain.model.genesis_json import genesis_to_json
from chain.model.merkle import MerkleTree, write_leaf
from chain.model.proofs import receipt_proof, value_proof
from chain.model.trust import (
    SETS_PREFIX,
    TrustLink,
    changes_part,
    decode_trust,
    encode_trust,
    make_link,
    schedule_of_links,
)  # fmt: skip
from chain.model.validators import Validator, ValidatorSet
from chain.node.members import load_trust, save_trust, schedule_of_trust, verify_vote
from chain.offline import ProofError, verify_proof
from consensus import verify_certificate
from contracts.system.membership import set_key
from tests.property.test_proof_mutation import at, other_values, places, with_value, without
from tests.unit.model.proofs_of import Json, reparsed, state_root_before
from tests.unit.store.factory import ChainFactory, Made, key_of, value_of

WINDOW = 2


class ChangingChain(ChainFactory):
    """A chain whose blocks are signed by the set in force; key number n is that of "bank n"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.all_keys = [SigningKey(hashlib.sha256(f"{self.name}/{n}".encode()).digest()) for n in range(8)]
        self.coming: dict[int, tuple[int, ...]] = {}  # who is in force from a height on
        self.who: tuple[int, ...] = (0, 1, 2, 3)
        self.since = 0

    def member(self, number: int) -> Validator:
        return Validator(name=f"bank {number}", public_key=bytes(self.all_keys[number].verify_key), weight=1)

    def next_block(self, writes: Sequence[tuple[bytes, bytes | None]] = (), *, then: tuple[int, ...] = ()) -> Made:
        """A block; with `then` it schedules that set."""
        height = self.tip.height + 1
        if height in self.coming:
            self.who, self.since = self.coming[height], height
        self.validators = ValidatorSet(self.member(number) for number in self.who)
        rows = list(writes)
        if then:
            members = tuple((self.member(n).name, self.member(n).public_key, 1) for n in then)
            rows.append((set_key(height + WINDOW + 1), pack((self.since, members))))
            self.coming[height + WINDOW + 1] = then
        return self.block(sorted(rows))

    def certify(self, header: Header, signers: int = 0) -> Certificate:
        """By a quorum of those in force."""
        return self.signed(header, self.who[: self.quorum(len(self.who))])

    @staticmethod
    def quorum(count: int) -> int:
        return count - (count - 1) // 3

    def signed(self, header: Header, who: Sequence[int]) -> Certificate:
        made = super().certify(header, 0)
        message = super_message(header, made)
        signatures = [
            VoteSignature(validator=self.member(n).id, signature=self.all_keys[n].sign(message).signature) for n in who
        ]
        return msgspec.structs.replace(made, signatures=tuple(sorted(signatures, key=lambda item: item.validator)))

    def link(self, height: int) -> TrustLink:
        made = self.made[height - 1]
        return make_link(
            header=made.block.header, certificate=made.block.certificate,
            parent_state_root=state_root_before(self, height), writes=made.writes, from_height=height + WINDOW + 1,
        )  # fmt: skip


def super_message(header: Header, certificate: Certificate) -> bytes:
    """What validators sign for a header."""
    return encode((b"headrace/vote/1", header.chain_id, 4, 0, header.height, certificate.digest))


@cache
def story() -> ChangingChain:
    """4 -> 5 -> 4 others, with ten blocks; block 10 is signed by banks 2 to 5 only."""
    chain = ChangingChain(window=WINDOW)
    chain.next_block([(key_of(1), value_of(1, 1))])
    chain.next_block([(key_of(2), value_of(2, 2)), (key_of(9), value_of(9, 2))], then=(0, 1, 2, 3, 4))  # from 5 on
    chain.next_block([(key_of(3), value_of(3, 3))])
    chain.next_block()
    chain.next_block([(key_of(4), value_of(4, 5))], then=(2, 3, 4, 5))  # from 8 on
    for _ in range(5):
        chain.next_block([(key_of(5), value_of(5, 9))])
    return chain


def links() -> tuple[TrustLink, ...]:
    return (story().link(2), story().link(5))


def genesis() -> Json:
    return reparsed(genesis_to_json(story().genesis))


def receipt_document(height: int = 10) -> Json:
    made = story().made[height - 1]
    proof = receipt_proof(
        header=made.block.header, certificate=made.block.certificate, validators=set_at(height),
        hashes=made.block.hashes, receipts=made.block.receipts, position=1,
    )  # fmt: skip
    return reparsed(proof | {"changes": changes_part(links(), height)})


def value_document() -> Json:
    made = story().made[9]
    proof = value_proof(
        key=key_of(9), header=made.block.header, certificate=made.block.certificate, validators=set_at(10),
        parent_state_root=state_root_before(story(), 2), write_sets=[item.writes for item in story().made[1:]],
    )  # fmt: skip
    return reparsed(proof | {"changes": changes_part(links(), 10)})


def set_at(height: int) -> ValidatorSet:
    who = (0, 1, 2, 3) if height < 5 else (0, 1, 2, 3, 4) if height < 8 else (2, 3, 4, 5)
    return ValidatorSet(story().member(number) for number in who)


def check(certificate: Certificate, validators: ValidatorSet) -> None:
    own = story().genesis_header.chain_id
    verify_certificate(certificate, validators=validators, chain_id=own, verify_signature=verify_vote)


# --- what holds ---


@pytest.mark.parametrize(("height", "changes"), [(3, 0), (4, 0), (5, 1), (7, 1), (8, 2), (10, 2)])
def test_a_receipt_of_every_epoch_is_proved_from_the_genesis(height: int, changes: int) -> None:
    document = receipt_document(height)
    assert len(document["changes"]) == changes
    if not changes:
        del document["changes"]  # as a chain without changes makes it
    assert verify_proof(document, genesis()).height == height


def test_a_value_is_proved_over_the_changes() -> None:
    verdict = verify_proof(value_document(), genesis())
    assert verdict.claim["value"] == value_of(9, 2).hex()
    assert set(verdict.signers) <= {"bank 2", "bank 3", "bank 4", "bank 5"}


def test_the_links_give_the_schedule() -> None:
    schedule = schedule_of_links(story().genesis, links(), check)
    assert [height for height, _ in schedule.epochs] == [0, 5, 8]
    for height in range(1, 11):
        assert schedule.at(height).digest == set_at(height).digest
    assert schedule_of_trust(story().genesis, encode_trust(links())).epochs[2][1].digest == set_at(8).digest
    assert decode_trust(b"") == () and len(schedule_of_trust(story().genesis, b"").epochs) == 1


def test_a_node_reads_the_file_it_has_written_however_many_changes_there_were(tmp_path: Path) -> None:
    """The bound on what a peer sends stopped the node from starting once its own file had outgrown it."""
    many = links() * 3_000
    data = encode_trust(many)
    assert len(data) > 4 * 1024 * 1024
    save_trust(tmp_path, data)
    assert load_trust(tmp_path) == many
    assert decode_trust(data, bytes_max=len(data)) == many
    with pytest.raises(DecodeError):
        decode_trust(data, bytes_max=len(data) - 1)


# --- what is refused ---


def changed(change: Callable[[Json], object]) -> Json:
    document = receipt_document()
    change(document)
    return document


def repeat(document: Json) -> None:
    document["changes"].insert(0, copy.deepcopy(document["changes"][0]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("changes"), "not the trusted set"),
        (lambda d: d["changes"].pop(), "not the trusted set"),
        (lambda d: d["changes"].pop(0), r"changes\[0\]: the header names another set than the one in force"),
        (lambda d: d["changes"].reverse(), r"changes\[0\]: the header names another set"),
        (repeat, r"changes\[1\]: block 2 is below height 5"),
        (lambda d: d["changes"][1]["signatures"].pop(), r"changes\[1\]: signatures: weight 3 of 5"),
        (lambda d: d["changes"][0].update(parent_state_root="00" * 32), "row does not lead to the header's state root"),
        (lambda d: d["changes"][0].update(leaf=d["changes"][1]["leaf"]), "row does not lead"),
        (lambda d: d["changes"][0].update(proof=d["changes"][1]["proof"]), "row does not lead|siblings do not fit"),
        (lambda d: d["changes"][0].update(note=1), "unknown field 'note'"),
        (lambda d: d.update(changes={}), "dict where list is required"),
    ],
)
def test_a_tampered_chain_of_changes_is_refused(change: Callable[[Json], object], reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        verify_proof(changed(change), genesis())


def test_a_change_that_is_not_in_force_yet_proves_nothing() -> None:
    document = receipt_document(7)
    document["changes"] = receipt_document(10)["changes"]
    with pytest.raises(ProofError, match=r"not the trusted set|a set from height 8 on, of block 5, for 7"):
        verify_proof(document, genesis())


def test_who_was_removed_certifies_nothing_any_more() -> None:
    """Banks 0 to 4 were a quorum's worth once: their signatures under block 10 count for nothing."""
    made = story().made[9]
    certificate = story().signed(made.header, (0, 1, 2, 3))
    for validators in (set_at(10), set_at(7)):
        document = reparsed(
            receipt_proof(
                header=made.block.header, certificate=encode(certificate), validators=validators,
                hashes=made.block.hashes, receipts=made.block.receipts, position=1,
            )
            | {"changes": changes_part(links(), 10)}
        )  # fmt: skip
        with pytest.raises(ProofError, match=r"is no validator in force|not the set that the header names"):
            verify_proof(document, genesis())


@pytest.mark.slow
@pytest.mark.parametrize("document", [receipt_document, value_document])
def test_every_field_of_the_changes_counts(document: Callable[[], Json]) -> None:
    """Changed or left out: refused."""
    whole, trusted = document(), genesis()
    for path in places(whole["changes"], ("changes",)):
        value = at(whole, path)
        others = [] if isinstance(value, dict | list) else other_values(value)
        attempts = [with_value(whole, path, item) for item in others]
        for attempt in (*attempts, without(whole, path)):
            with pytest.raises(ProofError):
                verify_proof(attempt, trusted)


def test_a_change_of_another_chain_with_the_same_validators_is_refused() -> None:
    document = receipt_document()
    foreign = forged(links()[0], chain_id=bytes(32))
    document["changes"] = changes_part((foreign, links()[1]), 10)
    with pytest.raises(ProofError, match=r"changes\[0\]: of another chain"):
        verify_proof(document, genesis())


def test_a_set_certifies_nothing_before_its_height() -> None:
    """The set of height 8, a quorum of it of bad faith, signs another block 7 that names it."""
    made = story().made[6]
    header = msgspec.structs.replace(made.header, validator_set_hash=set_at(8).digest)
    document = reparsed(
        receipt_proof(
            header=encode_header(header), certificate=encode(story().signed(header, (2, 3, 4, 5))),
            validators=set_at(8), hashes=made.block.hashes, receipts=made.block.receipts, position=1,
        )
        | {"changes": changes_part(links(), 10)}
    )  # fmt: skip
    with pytest.raises(ProofError, match="a set from height 8 on, of block 5, for 7"):
        verify_proof(document, genesis())


def forged(link: TrustLink, **fields: object) -> TrustLink:
    """With another header, signed by the quorum of genesis."""
    header = msgspec.structs.replace(decode_header(link.header), **fields)
    certificate = encode(story().signed(header, (0, 1, 2)))
    return msgspec.structs.replace(link, header=encode_header(header), certificate=certificate)


def with_row(link: TrustLink, key: bytes, value: bytes | None) -> TrustLink:
    """A block that writes only this row, with a header that fits it."""
    leaf = write_leaf(key, value)
    root = hashlib.sha256(
        bytes((len(b"headrace/state-root/1"),)) + b"headrace/state-root/1" + link.parent_state_root
        + MerkleTree([leaf]).root
    ).digest()  # fmt: skip
    made = forged(link, state_root=root)
    return msgspec.structs.replace(made, leaf=leaf, proof=MerkleTree([leaf]).prove(0))


MEMBERS = tuple((f"bank {n}", bytes([n]) * 32, 1) for n in range(4))


def row(members: tuple[tuple[str, bytes, int], ...]) -> bytes:
    """Of a set that follows the one of genesis."""
    return pack((0, members))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda a, b: (b,), "names another set than the one in force"),
        (lambda a, b: (a, a), "while the one from 5 on is not in force"),
        (lambda a, b: (msgspec.structs.replace(a, certificate=b.certificate),), "certificate is not of block 2"),
        (lambda a, b: (forged(a, chain_id=bytes(32)),), "header of another chain"),
        (lambda a, b: (forged(a, state_root=bytes(32)),), "did not write the row"),
        (lambda a, b: (forged(a, validator_set_hash=bytes(32)),), "names another set"),
        (lambda a, b: (msgspec.structs.replace(a, parent_state_root=b""),), "has no shape"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(2), row(MEMBERS)),), "schedules a set for height 2"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(4), row(MEMBERS)),), "schedules a set for height 4"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(6), row(MEMBERS)),), "schedules a set for height 6"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), pack((1, MEMBERS))),), "in force from 1 on, not 0"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), pack((False, MEMBERS))),), "not a row"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), pack(MEMBERS)),), "not a row"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), None),), "value"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), row(())),), "0 members"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), row(MEMBERS * 2)),), "two members have one public key"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), row((("x", b"short", 1),))),), "not a member's key"),
        (lambda a, b: (with_row(a, SETS_PREFIX + pack(5), row((("x", bytes(32), 0),))),), "not a member"),
        (lambda a, b: (with_row(a, key_of(1), row(MEMBERS)),), "not a row|value"),
    ],
)
def test_forged_links_are_refused(
    made: Callable[[TrustLink, TrustLink], tuple[TrustLink, ...]], reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        schedule_of_links(story().genesis, made(*links()), check)


def test_too_few_signatures_under_a_change_are_refused() -> None:
    first = links()[0]
    certificate = decode(Certificate, first.certificate)
    fewer = msgspec.structs.replace(certificate, signatures=certificate.signatures[:2])
    with pytest.raises(BadInput, match="link 0"):
        schedule_of_links(story().genesis, (msgspec.structs.replace(first, certificate=encode(fewer)),), check)
    with pytest.raises(BadInput):
        schedule_of_trust(story().genesis, b"\x91\x91\x90")


# --- a set that comes again ---


@cache
def recurring() -> ChangingChain:
    """The set of genesis until 4, another from 5, each again from 8 and 11, and from 14 on a third."""
    chain = ChangingChain(window=WINDOW)
    targets = {2: (0, 1, 2, 3, 4), 5: (0, 1, 2, 3), 8: (0, 1, 2, 3, 4), 11: (2, 3, 4, 5)}
    for height in range(1, 15):
        chain.next_block([(key_of(1), value_of(1, height))], then=targets.get(height, ()))
    return chain


def recurring_document(height: int, *changed: int) -> Json:
    """A receipt of that height, with the changes at these heights only."""
    chain = recurring()
    made = chain.made[height - 1]
    who = chain.coming.get(max((at for at in chain.coming if at <= height), default=0), (0, 1, 2, 3))
    proof = receipt_proof(
        header=made.block.header, certificate=made.block.certificate,
        validators=ValidatorSet(chain.member(n) for n in who), hashes=made.block.hashes,
        receipts=made.block.receipts, position=1,
    )  # fmt: skip
    return reparsed(proof | {"changes": changes_part([chain.link(at) for at in changed], height)})


def recurring_genesis() -> Json:
    return reparsed(genesis_to_json(recurring().genesis))


def test_a_set_that_comes_again_is_proved_in_its_place() -> None:
    schedule = schedule_of_links(recurring().genesis, [recurring().link(at) for at in (2, 5, 8, 11)], check_recurring)
    assert [height for height, _ in schedule.epochs] == [0, 5, 8, 11, 14]
    assert schedule.at(4).digest == schedule.at(8).digest != schedule.at(7).digest == schedule.at(11).digest
    for height, changes in ((4, ()), (7, (2,)), (8, (2, 5)), (11, (2, 5, 8)), (14, (2, 5, 8, 11))):
        assert verify_proof(recurring_document(height, *changes), recurring_genesis()).height == height


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ((8,), "its set is in force from 8 on, not 0"),  # what lies between the first and the second time is left out
        ((2, 8), "names another set than the one in force"),
        ((2, 11), "its set is in force from 11 on, not 5"),
        ((2, 5, 2), "while the one from 8 on is not in force"),  # the first time's change in place of the second's
        ((2, 5, 2, 8), "while the one from 8 on is not in force"),
        ((5, 8), "names another set"),
        ((2, 5, 5, 8), "while the one from 8 on is not in force"),
        ((2, 2, 5, 8), "while the one from 5 on is not in force"),
    ],
)
def test_a_change_of_the_first_time_is_none_of_the_second(shown: tuple[int, ...], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        schedule_of_links(recurring().genesis, [recurring().link(at) for at in shown], check_recurring)
    with pytest.raises(ProofError, match=r"changes\[\d\]"):
        verify_proof(recurring_document(14, *shown), recurring_genesis())


def test_from_a_trust_document_the_changes_hang_together_too() -> None:
    """It does not say since when its set is in force: its first change may follow any height, a later one may not."""
    members = genesis_to_json(recurring().genesis)["validators"]
    trust = reparsed({"format": "headrace-trust-1", "chain_id": recurring().genesis_header.chain_id.hex(),
                      "validators": members})  # fmt: skip
    assert verify_proof(recurring_document(14, 8, 11), trust).height == 14
    assert verify_proof(recurring_document(14, 2, 5, 8, 11), trust).height == 14
    with pytest.raises(ProofError, match=r"changes\[1\]: it follows a set from height 11 on, the one .* from 5 on"):
        verify_proof(recurring_document(14, 2, 11), trust)


@pytest.mark.parametrize("from_height", [4, 6])
def test_a_set_is_in_force_window_plus_one_heights_after_its_block(from_height: int) -> None:
    document = receipt_document()
    early = with_row(links()[0], SETS_PREFIX + pack(from_height), row(MEMBERS))
    document["changes"] = changes_part((early,), 10)
    with pytest.raises(ProofError, match=rf"changes\[0\]: a set from height {from_height} on, of block 2: not window"):
        verify_proof(document, genesis())


def check_recurring(certificate: Certificate, validators: ValidatorSet) -> None:
    own = recurring().genesis_header.chain_id
    verify_certificate(certificate, validators=validators, chain_id=own, verify_signature=verify_vote)
