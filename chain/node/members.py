"""Who belongs to the chain, as this node knows it: validator sets by height, observers, addresses, its own keys.

All of it comes from the genesis, the state and the stored blocks, so it is the same after a restart or a snapshot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from chain.config import NodeConfig, PeerConfig
from chain.crypto import Scheme, verify
from chain.crypto.certificates import read_node_identity
from chain.errors import BadInput, ConfigError, StoreError
from chain.model.block import Certificate, decode_header
from chain.model.genesis import Genesis, chain_id
from chain.model.merkle import unpack_writes
from chain.model.signing import ValidatorKey
from chain.model.trust import (
    SETS_PREFIX,
    TrustLink,
    changes_part,
    decode_trust,
    encode_trust,
    link_height,
    make_link,
    schedule_of_links,
)  # fmt: skip
from chain.model.validators import ValidatorSchedule, ValidatorSet, validator_id
from chain.node.consortium import load_validator_key
from chain.store import Store
from chain.types import Height, ValidatorId
from consensus import verify_certificate
from contracts.system.membership import (
    ENDPOINTS_PREFIX,
    OBSERVERS_KEY,
    Change,
    Observer,
    endpoints_of,
    observers_of,
    open_changes,
    scheduled_rows,
    touches_members,
)  # fmt: skip

TRUST_FILE: Final = "trust.bin"
NO_HOST: Final = "address.invalid"  # of a member whose address is nowhere said: it has to dial us

log = structlog.get_logger("headrace.node")


class Role(enum.StrEnum):
    """What a node is to its chain at a height."""

    VALIDATOR = "validator"
    OBSERVER = "observer"
    JOINING = "joining"  # scheduled as a validator
    REMOVED = "removed"  # was a validator once
    STRANGER = "stranger"  # neither: nobody talks to it yet


class NodeMembers:
    """Kept up by the node: `stored` after every durable write."""

    def __init__(self, *, config: NodeConfig, genesis: Genesis, keys: Sequence[ValidatorKey], store: Store) -> None:
        """`keys`: the node's own; the second one, if there is one, is for after a rotation."""
        self._config = config
        self._store = store
        self._window = genesis.parameters.window
        self.keys: tuple[ValidatorKey, ...] = tuple(keys)
        self.schedule = ValidatorSchedule.of_genesis(genesis)
        self.schedule.restore(scheduled_rows(store.state.scan(SETS_PREFIX)))
        self._observers: tuple[Observer, ...] = ()
        self._endpoints: dict[bytes, str] = {}
        self._read_rows()
        self.height = Height(store.state.height())
        self._links = load_trust(store.path)
        self._complete_links()
        self._settle()

    # --- kept up ---

    def load_next_key(self) -> ValidatorKey | None:
        """The key of a rotation, if its file is there by now and it is not among the node's keys yet."""
        with contextlib.suppress(ConfigError):
            key = load_validator_key(self._config.path("next_validator_key"))
            if key.validator_id not in {known.validator_id for known in self.keys}:
                self.keys = (*self.keys, key)
                return key
        return None

    def stored(self, height: Height, writes: Sequence[bytes]) -> bool:
        """Blocks up to `height` are durable, with these packed write sets. True if `peers` or `own` may differ now."""
        before, self.height = self.schedule.at(self.height + 1), height
        touched = any(touches_members(item) for item in writes)
        if touched:
            self._read_rows()
            self._complete_links()
        changed = touched or self.schedule.at(height + 1) is not before
        if changed:
            self._settle()
        return changed

    def certificate_expires(self) -> datetime.datetime | None:
        """When the node's TLS certificate is no longer valid; None: its file cannot be read now."""
        try:
            return read_node_identity(self.config().path("tls_certificate").read_bytes()).expires
        except (OSError, BadInput):
            return None

    def settle_identity(self) -> None:
        """After a key was loaded: its set may be in force already."""
        self.own = self._identity()

    def _settle(self) -> None:
        self.own = self._identity()
        known = {known for _, validators in self.schedule.epochs for known in validators.ids()}
        known |= {*self.observer_ids, *(key.validator_id for key in self.keys)}
        # whom node.toml names, and the chain as far as it is known here has never heard of
        self.introduced = tuple(peer for peer in self._config.peers if peer.validator not in known)

    def _read_rows(self) -> None:
        state = self._store.state
        self._observers = observers_of(state.get(OBSERVERS_KEY))
        self._endpoints = endpoints_of(state.scan(ENDPOINTS_PREFIX))

    def _identity(self) -> ValidatorId:
        """The key that counts next: of the set in force, else of a later one, else of an observer, else the first."""
        known = [set_.ids() for set_ in self._sets()] + [self.observer_ids]
        for ids in known:
            for key in self.keys:
                if key.validator_id in ids:
                    return key.validator_id
        return self.keys[0].validator_id

    # --- who ---

    @property
    def validators(self) -> ValidatorSet:
        """The set in force for the next height."""
        return self.schedule.at(self.height + 1)

    @property
    def scheduled(self) -> tuple[Height, ValidatorSet] | None:
        """(first height, set) of the set that is in force next, if one is scheduled."""
        from_height, validators = self.schedule.epochs[-1]
        return (from_height, validators) if from_height > self.height + 1 else None

    @property
    def observers(self) -> tuple[Observer, ...]:
        """(name, public key, endpoint)."""
        return self._observers

    @property
    def observer_ids(self) -> tuple[ValidatorId, ...]:
        return tuple(validator_id(key) for _, key, _ in self._observers)

    def open_changes(self) -> list[Change]:
        """As they stand at the stored height."""
        return open_changes(self._store.state.get)

    @property
    def role(self) -> Role:
        """Of this node."""
        own = {key.validator_id for key in self.keys}
        if own & set(self.validators.ids()):
            return Role.VALIDATOR
        if own & set(self.schedule.last_known.ids()):
            return Role.JOINING
        if own & set(self.observer_ids):
            return Role.OBSERVER
        past = {known for _, validators in self.schedule.epochs for known in validators.ids()}
        return Role.REMOVED if own & past else Role.STRANGER

    def _sets(self) -> list[ValidatorSet]:
        """The set in force for the next height, and every later one."""
        later = [validators for from_height, validators in self.schedule.epochs if from_height > self.height + 1]
        return [self.validators, *later]

    def endpoint(self, validator: ValidatorId) -> str:
        """Where a member listens, as the chain says; empty: it does not."""
        for name, key, endpoint in self._observers:
            if validator_id(key) == validator and name:
                return endpoint
        return self._endpoints.get(validator, "")

    def leavers(self) -> tuple[PeerConfig, ...]:
        """Who was a validator in the epoch before this one, under an id that is no member's any more.

        Such an id was removed, or has a successor: a node that is late at the boundary has no other until it is there.
        """
        staying = {peer.validator for peer in self.peers()} | {key.validator_id for key in self.keys}
        before = self.schedule.at(self.schedule.base(self.height + 1)).members
        own = self._config.node.name  # with its new key only, a node is not to reach for its old id
        return tuple(self._peer(old.id, old.name) for old in before if old.id not in staying and old.name != own)

    def successors(self) -> dict[bytes, ValidatorId]:
        """The present id of each validator that has got another key with this epoch, by its former id."""
        before = self.schedule.at(self.schedule.base(self.height + 1))
        present = {member.name: member.id for member in self.validators.members if member.id not in before.ids()}
        staying = self.validators.ids()
        return {old.id: present[old.name] for old in before.members if old.id not in staying and old.name in present}

    def peers(self) -> tuple[PeerConfig, ...]:
        """Everybody this node may talk to: validators in force and scheduled, observers. Without itself."""
        members = {member.id: member.name for validators in self._sets() for member in validators.members}
        members |= {validator_id(key): name for name, key, _ in self._observers}
        own = {key.validator_id for key in self.keys}
        return tuple(self._peer(member, name) for member, name in members.items() if member not in own)

    def _peer(self, validator: ValidatorId, name: str) -> PeerConfig:
        """node.toml counts first, by id or (after a rotation) by name; then what the chain says."""
        for known in self._config.peers:
            if known.validator == validator:
                return known
        for known in self._config.peers:
            if known.name == name:
                return dataclasses.replace(known, validator=validator)
        host, _, port = self.endpoint(validator).rpartition(":")
        if not host:
            return PeerConfig(validator=validator, name=name, host=NO_HOST, port=1)
        return PeerConfig(validator=validator, name=name, host=host.strip("[]"), port=int(port))

    def config(self) -> NodeConfig:
        """The node's configuration, with the TLS files that name the key that counts: a rotation's, or its own."""
        config = self._following()
        return config if _certified(config.path("tls_certificate")) == self.own else self._config

    def _following(self) -> NodeConfig:
        paths = self._config.paths
        following = dataclasses.replace(paths, tls_key=paths.next_tls_key, tls_certificate=paths.next_tls_certificate)
        return dataclasses.replace(self._config, paths=following)

    def former(self) -> tuple[NodeConfig, ValidatorId | None]:
        """The configuration with the ordinary TLS files; which other key of the node they name, if they name one."""
        named = _certified(self._config.path("tls_certificate"))
        others = {key.validator_id for key in self.keys} - {self.own}
        return self._config, named if named in others else None

    def certified(self) -> dict[ValidatorId, NodeConfig]:
        """The node's own keys that have a certificate here, with the configuration that names its files."""
        own = {key.validator_id for key in self.keys}
        configs = (self._config, self._following())
        named = {_certified(config.path("tls_certificate")): config for config in configs}
        return {found: config for found, config in named.items() if found is not None and found in own}

    # --- trust ---

    @property
    def links(self) -> tuple[TrustLink, ...]:
        """What proves each set after the first, as far as this node can."""
        return self._links

    def with_changes(self, proof: dict[str, Any], height: int) -> dict[str, Any]:
        """A proof document of a block at `height`, with what proves its validator set from the first one on.

        Raises:
            BadInput: `pruned`: a link is missing here; another node may have it.
        """
        wanted = sum(from_height <= height for from_height, _ in self.schedule.epochs[1:])
        changes = changes_part(self._links, height)
        if len(changes) < wanted:
            raise BadInput("pruned", "this node lacks blocks that changed the validator set; ask another node")
        return proof | {"changes": changes} if changes else proof

    def _complete_links(self) -> None:
        """Make the links that are missing from the stored blocks, and keep them all in a file."""
        known = self.schedule.epochs[1:]
        links = list(self._links[: len(known)])
        for from_height, _ in known[len(links) :]:
            link = self._make_link(from_height)
            if link is None:
                break
            links.append(link)
        if len(links) != len(self._links):
            self._links = tuple(links)
            save_trust(self._store.path, encode_trust(links))

    def _make_link(self, from_height: Height) -> TrustLink | None:
        """None: the block that scheduled the set is not here (yet)."""
        height = from_height - self._window - 1
        blocks = self._store.blocks
        if height > blocks.height():
            return None
        header, certificate, before = blocks.header(height), blocks.certificate(height), blocks.header(height - 1)
        writes = blocks.writes(height)
        if header is None or certificate is None or before is None or writes is None:
            log.warning("trust_link_missing", height=height)
            return None
        return make_link(
            header=header,
            certificate=certificate,
            parent_state_root=decode_header(before).state_root,
            writes=unpack_writes(writes),
            from_height=from_height,
        )


def _certified(certificate: Path) -> ValidatorId | None:
    """Whom a certificate names; None: there is none that can be read."""
    try:
        return read_node_identity(certificate.read_bytes()).validator
    except (OSError, BadInput):
        return None


def load_trust(folder: Path) -> tuple[TrustLink, ...]:
    """The links in a data folder.

    Raises:
        StoreError: the file cannot be read.
    """
    path = folder / TRUST_FILE
    try:
        links = decode_trust(path.read_bytes())
        for link in links:
            link_height(link)
        return links
    except FileNotFoundError:
        return ()
    except (OSError, BadInput) as error:
        raise StoreError(f"{path}: cannot be read: {error}; without it the links are made from the blocks") from None


def save_trust(folder: Path, data: bytes) -> None:
    """Keep the links in a data folder, durably.

    Raises:
        StoreError: the disk refuses.
    """
    path = folder / TRUST_FILE
    temporary = path.with_suffix(".writing")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None


def schedule_of_trust(genesis: Genesis, data: bytes) -> ValidatorSchedule:
    """The sets that a peer's links prove, every signature checked.

    Raises:
        BadInput: `bad_trust`, or malformed.
    """
    own_chain = chain_id(genesis)

    def check(certificate: Certificate, validators: ValidatorSet) -> None:
        verify_certificate(certificate, validators=validators, chain_id=own_chain, verify_signature=verify_vote)

    return schedule_of_links(genesis, decode_trust(data), check)


def verify_vote(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a validator's signature holds."""
    return verify(Scheme.ED25519, public_key, message, signature)


def load_keys(config: NodeConfig) -> tuple[ValidatorKey, ...]:
    """The node's validator key, and behind it the one of a rotation, if there is one.

    Raises:
        ConfigError: as `load_validator_key`.
    """
    first = load_validator_key(config.path("validator_key"))
    path = config.path("next_validator_key")
    if not path.exists():
        return (first,)
    following = load_validator_key(path)
    return (first,) if following.validator_id == first.validator_id else (first, following)


__all__ = [
    "NodeMembers", "Role", "load_keys", "load_trust", "save_trust", "schedule_of_trust", "verify_vote",
]  # fmt: skip
