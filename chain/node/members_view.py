"""What the API shows of the members of the chain."""

from __future__ import annotations

from chain.errors import BadInput
from chain.model.validators import ValidatorSet, validator_id
from chain.node.members import NodeMembers
from chain.rpc.services import ChangeView, MembersView, ObserverView, ScheduledView, ValidatorView
from chain.types import ValidatorId
from contracts.system.membership import Change


def members_view(members: NodeMembers, height: int | None) -> MembersView:
    """The members at a height; without one, at the next height.

    Raises:
        BadInput: `not_found`: which set is in force there is not certain yet.
    """
    at = members.height + 1 if height is None else height
    if at > members.height + 1:
        raise BadInput("not_found", f"height {at}: the set is certain up to height {members.height + 1} here")
    validators = members.schedule.at(at)
    scheduled = members.scheduled
    return MembersView(
        height=at,
        from_height=members.schedule.base(at) + 1 if members.schedule.base(at) else 0,
        validators=_validators(members, validators),
        total_weight=validators.total_weight,
        quorum_weight=validators.quorum_weight,
        scheduled=None
        if scheduled is None
        else ScheduledView(from_height=scheduled[0], validators=_validators(members, scheduled[1])),
        observers=tuple(
            ObserverView(name=name, id=validator_id(key), public_key=key, endpoint=endpoint)
            for name, key, endpoint in members.observers
        ),
        changes=tuple(_change(members, change) for change in members.open_changes()),
    )


def _validators(members: NodeMembers, validators: ValidatorSet) -> tuple[ValidatorView, ...]:
    return tuple(
        ValidatorView(
            name=member.name, id=member.id, public_key=member.public_key, weight=member.weight,
            endpoint=members.endpoint(member.id),
        )
        for member in validators.members
    )  # fmt: skip


def _change(members: NodeMembers, change: Change) -> ChangeView:
    validators = members.validators
    approvals = tuple(ValidatorId(approval) for approval in change.approvals)
    return ChangeView(
        number=change.number,
        kind=change.kind,
        name=change.name,
        id=change.validator,
        weight=change.weight,
        endpoint=change.endpoint,
        proposer=change.proposer,
        proposed_height=change.proposed_height,
        approvals=approvals,
        approved_weight=validators.weight(approvals),
        quorum_weight=validators.quorum_weight,
    )
