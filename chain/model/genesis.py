"""Genesis: everything that must be equal on all nodes, hashed into the chain id."""

from __future__ import annotations

from typing import Final

import msgspec

from chain.codec import Record, encode, tagged_digest
from chain.errors import ConfigError
from chain.model.block import GENESIS_PARENT, Header
from chain.model.transaction import TRANSACTION_BYTES_MAX
from chain.model.validators import Validator, ValidatorSet, check_count
from chain.types import MESSAGE_BYTES_MAX, ZERO_DIGEST, Digest

SIGNER_BYTES: Final = 90  # of one signature in a certificate, with its validator id
TAG_GENESIS: Final = b"headrace/genesis/1"
RULE_SET_MEMBERS: Final = 3  # the first one with membership and snapshots
SNAPSHOT_INTERVAL_MIN: Final = 50
RULE_SET: Final = 3  # of new networks; what the rule sets are stands in contracts/language/rules.py


class ChainParameters(Record, frozen=True, kw_only=True):
    """Consensus-critical limits. Ranges are checked by `check_genesis`.

    Rule sets 1 and 2 know no `snapshot_interval`: it is 0 there, whatever is given, and no part of the encoding.
    """

    rule_set: int = RULE_SET
    window: int = 8  # heights in flight above the last certified one
    block_transactions_max: int = 2_000
    block_bytes_max: int = 4 * 1024 * 1024  # bodies of one proposal
    block_gas_max: int = 2_000_000_000
    transaction_gas_max: int = 100_000_000
    lifetime_max: int = 1_000  # heights between acceptance and expiry
    timestamp_drift_ms_max: int = 15_000
    snapshot_interval: int = 1_000  # heights between committed snapshots of the state; 0: none

    def __post_init__(self) -> None:
        if self.rule_set < RULE_SET_MEMBERS:
            msgspec.structs.force_setattr(self, "snapshot_interval", 0)


class Genesis(Record, frozen=True, kw_only=True):
    name: str
    created_ms: int
    parameters: ChainParameters
    validators: tuple[Validator, ...]
    ca_certificate_sha256: bytes  # DER of the consortium CA certificate
    deployers: tuple[bytes, ...]  # accounts with the right to deploy; empty: everyone


def parameter_names(rule_set: int) -> tuple[str, ...]:
    """The fields of `ChainParameters` that a genesis of this rule set has, in the order of its encoding."""
    names = ChainParameters.__struct_fields__
    return names if rule_set >= RULE_SET_MEMBERS else tuple(name for name in names if name != "snapshot_interval")


def encode_genesis(genesis: Genesis) -> bytes:
    """Canonical bytes of a genesis; a rule set never changes its encoding."""
    parameters = genesis.parameters
    fields = [getattr(genesis, name) for name in Genesis.__struct_fields__]
    at = Genesis.__struct_fields__.index("parameters")
    fields[at] = [getattr(parameters, name) for name in parameter_names(parameters.rule_set)]
    return encode(fields)


def chain_id(genesis: Genesis) -> Digest:
    return tagged_digest(TAG_GENESIS, encode_genesis(genesis))


def genesis_header(genesis: Genesis) -> Header:
    """Height 0: nothing executed, the anchor of parent hashes and state roots."""
    return Header(
        chain_id=chain_id(genesis),
        height=0,
        time_ms=genesis.created_ms,
        parent_hash=GENESIS_PARENT,
        proposal_digest=ZERO_DIGEST,
        rule_set=genesis.parameters.rule_set,
        validator_set_hash=ValidatorSet(genesis.validators).digest,
        transaction_count=0,
        transaction_root=ZERO_DIGEST,
        receipt_root=ZERO_DIGEST,
        state_root=ZERO_DIGEST,
        gas_used=0,
    )


_RANGES: Final[dict[str, tuple[int, int]]] = {
    "rule_set": (1, RULE_SET),
    "window": (1, 64),
    "block_transactions_max": (1, 20_000),
    # A block must fit one answer to a peer: with 20,000 hashes, as many lengths and positions, and a certificate.
    "block_bytes_max": (TRANSACTION_BYTES_MAX, MESSAGE_BYTES_MAX - 64 * 1024 - 20_000 * (32 + 4 + 4)),
    "block_gas_max": (1, 2_000_000_000),
    "transaction_gas_max": (1, 2**62),
    "lifetime_max": (10, 1_000_000),
    "timestamp_drift_ms_max": (100, 3_600_000),
    "snapshot_interval": (0, 1_000_000),
}


def new_view_bytes(window: int, validators: int) -> int:
    """How large a new-view message may get with so many validators of weight 1, certificates naming all of them."""
    quorum = validators - (validators - 1) // 3
    return (window + 1) * quorum * validators * SIGNER_BYTES


def check_genesis(genesis: Genesis) -> None:
    """Raises ConfigError naming the first field that is out of range, its value and what would be right."""
    for field, (low, high) in _RANGES.items():
        value = getattr(genesis.parameters, field)
        if not low <= value <= high:
            raise ConfigError(f"genesis parameters.{field} is {value}, must be {low}..{high}")
    if 0 < genesis.parameters.snapshot_interval < SNAPSHOT_INTERVAL_MIN:
        raise ConfigError(
            f"genesis parameters.snapshot_interval is {genesis.parameters.snapshot_interval}, must be 0 (no "
            f"snapshots) or {SNAPSHOT_INTERVAL_MIN}..{_RANGES['snapshot_interval'][1]}"
        )
    count = len(genesis.validators)
    check_count(count, f"genesis has {count} validators")
    if genesis.parameters.transaction_gas_max > genesis.parameters.block_gas_max:
        raise ConfigError("genesis parameters.transaction_gas_max must not exceed parameters.block_gas_max")
    size = new_view_bytes(genesis.parameters.window, count)
    if size > MESSAGE_BYTES_MAX:
        raise ConfigError(
            f"genesis parameters.window is {genesis.parameters.window} with {count} validators: a new view could have "
            f"{size} bytes, at most {MESSAGE_BYTES_MAX} fit a message; make the window smaller"
        )
    ValidatorSet(genesis.validators)
