"""The seam to the unchanged core: building a replica, checking and signing messages, with cheap keys."""

from __future__ import annotations

from collections.abc import Sequence

from chain.errors import PeerFault
from chain.model.block import Certificate, Header
from chain.model.genesis import ChainParameters
from chain.model.validators import Validator, ValidatorSchedule, ValidatorSet
from chain.sim.faults import TimerFaults
from chain.sim.keys import SimSigner, verify_signature
from chain.types import Digest, ValidatorId
from consensus import Epoch, ReplicaConfig, Succession, verify, verify_certificate
from consensus.effects import JournalRecord
from consensus.messages import Message, Signed, Verified, subject


class Core:
    """What is equal for all nodes of one run."""

    def __init__(
        self, *, known: Sequence[Validator], chain_id: Digest, parameters: ChainParameters, timers: TimerFaults
    ) -> None:
        """`known`: everybody who may ever have a vote."""
        self._chain_id = chain_id
        self._parameters = parameters
        self.config = ReplicaConfig(
            view_timeout_ms=timers.view_timeout_ms,
            view_timeout_ms_max=timers.view_timeout_ms_max,
            retransmit_ms=timers.retransmit_ms,
            timestamp_drift_ms_max=parameters.timestamp_drift_ms_max,
        )
        self._signers = {member.id: SimSigner(member) for member in known}

    def replica(
        self,
        validator: ValidatorId,
        *,
        schedule: ValidatorSchedule,
        last: tuple[Header, Certificate | None],
        journal: Sequence[JournalRecord],
    ) -> Succession:
        """`schedule` is what the blocks up to `last` have scheduled."""
        return Succession(
            config=self.config,
            signers=(self._signers[validator],),
            schedule=schedule,
            chain_id=self._chain_id,
            window=self._parameters.window,
            last=last,
            journal=journal,
        )

    def verify(self, signed: Signed[Message], epoch: Epoch) -> Verified[Message]:
        """The core's own verification, run on every message off the wire. Raises PeerFault and OtherEpoch."""
        return verify(
            signed,
            epoch=epoch,
            chain_id=self._chain_id,
            verify_signature=verify_signature,
            window=self._parameters.window,
        )

    def certificate_holds(self, certificate: Certificate, validators: ValidatorSet) -> bool:
        try:
            verify_certificate(
                certificate,
                validators=validators,
                chain_id=self._chain_id,
                verify_signature=verify_signature,
            )
        except PeerFault:
            return False
        return True

    def sign(self, validator: ValidatorId, message: Message) -> Verified[Message]:
        """What a dishonest validator says: anything, but with its own key."""
        signature = self._signers[validator].sign(subject(message).signing_bytes(self._chain_id))
        return Verified(sender=validator, message=message, signature=signature)
