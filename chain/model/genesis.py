"""Genesis: everything that must be equal on all nodes, hashed into the chain id."""

from __future__ import annotations

from typing import Final

from chain.codec import Record, encode, tagged_digest
from chain.errors import ConfigError
from chain.model.block import GENESIS_PARENT, Header
from chain.model.transaction import TRANSACTION_BYTES_MAX
from chain.model.validators import VALIDATORS_MAX, VALIDATORS_MIN, Validator, ValidatorSet
from chain.types import MESSAGE_BYTES_MAX, ZERO_DIGEST, Digest

SIGNER_BYTES: Final = 90  # of one signature in a certificate, with its validator id
TAG_GENESIS: Final = b"headrace/genesis/1"
RULE_SET: Final = 2  # of new networks; what the rule sets are stands in contracts/language/rules.py


class ChainParameters(Record, frozen=True, kw_only=True):
    """Consensus-critical limits. Ranges are checked by `check_genesis`."""

    rule_set: int = RULE_SET
    window: int = 8  # heights in flight above the last certified one
    block_transactions_max: int = 2_000
    block_bytes_max: int = 4 * 1024 * 1024  # bodies of one proposal
    block_gas_max: int = 2_000_000_000
    transaction_gas_max: int = 100_000_000
    lifetime_max: int = 1_000  # heights between acceptance and expiry
    timestamp_drift_ms_max: int = 15_000


class Genesis(Record, frozen=True, kw_only=True):
    name: str
    created_ms: int
    parameters: ChainParameters
    validators: tuple[Validator, ...]
    ca_certificate_sha256: bytes  # DER of the consortium CA certificate
    deployers: tuple[bytes, ...]  # accounts with the right to deploy; empty: everyone


def chain_id(genesis: Genesis) -> Digest:
    return tagged_digest(TAG_GENESIS, encode(genesis))


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
    "block_bytes_max": (TRANSACTION_BYTES_MAX, MESSAGE_BYTES_MAX - 64 * 1024 - 20_000 * 32),
    "block_gas_max": (1, 2_000_000_000),
    "transaction_gas_max": (1, 2**62),
    "lifetime_max": (10, 1_000_000),
    "timestamp_drift_ms_max": (100, 3_600_000),
}


def check_genesis(genesis: Genesis) -> None:
    """Raises ConfigError naming the first field that is out of range, its value and what would be right."""
    for field, (low, high) in _RANGES.items():
        value = getattr(genesis.parameters, field)
        if not low <= value <= high:
            raise ConfigError(f"genesis parameters.{field} is {value}, must be {low}..{high}")
    count = len(genesis.validators)
    if not VALIDATORS_MIN <= count <= VALIDATORS_MAX:
        raise ConfigError(f"genesis has {count} validators, must be {VALIDATORS_MIN}..{VALIDATORS_MAX}")
    if genesis.parameters.transaction_gas_max > genesis.parameters.block_gas_max:
        raise ConfigError("genesis parameters.transaction_gas_max must not exceed parameters.block_gas_max")
    quorum = count - (count - 1) // 3
    new_view_bytes = (genesis.parameters.window + 1) * quorum * count * SIGNER_BYTES  # certificates may name all
    if new_view_bytes > MESSAGE_BYTES_MAX:
        raise ConfigError(
            f"genesis parameters.window is {genesis.parameters.window} with {count} validators: a new view could have "
            f"{new_view_bytes} bytes, at most {MESSAGE_BYTES_MAX} fit a message; make the window smaller"
        )
    ValidatorSet(genesis.validators)
