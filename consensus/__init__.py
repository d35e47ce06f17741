"""PBFT as a pure state machine: `Replica.step(event, now) -> [effect]`; no clock, socket, randomness, disk, logging."""

from consensus.epoch import Epoch
from consensus.faults import FaultReason
from consensus.pace import ReplicaConfig
from consensus.replica import Replica
from consensus.safety import Signer
from consensus.slot import Phase
from consensus.succession import Succession
from consensus.verification import (
    Examined,
    OtherEpoch,
    SignatureItem,
    certificate_items,
    examine,
    verification_items,
    verify,
    verify_certificate,
)
from consensus.wire import decode_signed, encode_signed

__all__ = [
    "Epoch", "Examined", "FaultReason", "OtherEpoch", "Phase", "Replica", "ReplicaConfig", "SignatureItem", "Signer",
    "Succession", "certificate_items", "decode_signed", "encode_signed", "examine", "verification_items", "verify",
    "verify_certificate",
]  # fmt: skip
