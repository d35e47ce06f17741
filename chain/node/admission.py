"""Whom this node's gateway lets in, and under which of its keys: kept in step with who belongs to the chain.

Beside the members there are three kinds of guests, and none of them has a vote: they serve and are served blocks.

A node that was away while its key was replaced cannot know from its own blocks that the others know it by the new one
only. While nobody talks to it, it shows its two keys in turn; the id it shows decides who talks to it, not who votes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from chain.config import NodeConfig, PeerConfig
from chain.errors import ConfigError
from chain.net import Gateway, TlsFiles
from chain.node.members import NodeMembers
from chain.types import ValidatorId

LEAVING_S: Final = 5.0  # validators that were removed are still served for so long
ALONE_S: Final = 4.0  # nobody in reach for so long: with two keys the node shows the other one

log = structlog.get_logger("headrace.node")


class Admission:
    """Makes the gateway. Told of what happens by its node, on the event loop."""

    def __init__(self, members: NodeMembers, open_gateway: Callable[[NodeConfig, ValidatorId], Gateway]) -> None:
        """Raises ConfigError: the node has no usable certificate for any of its keys."""
        self._members = members
        self._timer: asyncio.TimerHandle | None = None  # runs while removed members are served
        self._look: asyncio.TimerHandle | None = None  # runs while nobody is in reach, or may be
        self._showing_other = False  # than the key that counts, as far as the blocks here tell
        self._stopping = False
        self._planned = False
        self._was_behind = True
        try:
            self.gateway = open_gateway(members.config(), members.own)
        except ConfigError as error:
            config, former = members.former()
            if former is None:
                raise
            self._tell_uncertified(error)
            self.gateway = open_gateway(config, former)
        self.update()
        self._look_later()

    def stop(self) -> None:
        """Before the gateway stops: it is not to reach for anybody any more."""
        self._stopping = True
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()

    def follow(self) -> None:
        """Who belongs to the chain has changed, or this node has another key now."""
        members = self._members
        shown = self.gateway.own
        if shown == members.own:
            self._showing_other = False
        elif not self._showing_other or not self.gateway.connected():
            try:
                self.use_certificate()
            except ConfigError as error:  # its votes reach nobody, but a node that still runs can be mended by SIGHUP
                self._tell_uncertified(error)
            else:
                log.info("key_rotated", validator=members.own.hex())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if members.leavers():  # they may not have the last block of their epoch yet, and could never get it later
            self._timer = asyncio.get_running_loop().call_later(LEAVING_S, self._part_with_removed)
        self.update()

    def use_certificate(self) -> None:
        """Raises ConfigError: there is none of the key that counts; nothing has changed."""
        self.gateway.reload_tls(TlsFiles.of(self._members.config()), own=self._members.own)
        self._showing_other = False
        self._look_later()

    def connected(self, peer: ValidatorId) -> None:
        """A peer can be reached."""
        if peer in self._members.successors().values():
            self._plan()
        self.reconsider()

    def reconsider(self) -> None:
        """A block was stored or a peer lost: this node may be behind now, or not any more."""
        self._look_later()
        if self._members.introduced and self._is_behind() != self._was_behind:
            self._plan()

    def update(self) -> None:
        """Let in whoever is to be let in now, and nobody else."""
        self._planned = False
        if not self._stopping:
            self._was_behind = self._is_behind()
            introduced = self._members.introduced if self._was_behind else ()
            self.gateway.set_members((*self._members.peers(), *self._leavers(), *introduced))

    def _plan(self) -> None:
        """Later: the gateway is amid changes to its connections when it tells of one."""
        if not self._planned and not self._stopping:
            self._planned = True
            asyncio.get_running_loop().call_soon(self.update)

    def _leavers(self) -> list[PeerConfig]:
        """Removed members for a while; those with a new key until they use it, for they need the boundary to do so."""
        connected, successors = self.gateway.connected(), self._members.successors()
        removed = self._timer is not None
        return [
            peer
            for peer in self._members.leavers()
            if (successors[peer.validator] not in connected if peer.validator in successors else removed)
        ]

    def _is_behind(self) -> bool:
        """Whether the members may have changed since, as far as this node can tell: it cannot reach those it knows."""
        reachable = {self._members.own, *self.gateway.connected()}
        return self._members.height == 0 or not self._members.validators.is_quorum(reachable)

    def _look_later(self) -> None:
        """To `_show_other`, unless somebody is in reach or there is one key only."""
        if self._look is None and not self._stopping and len(self._members.keys) > 1 and not self.gateway.connected():
            self._look = asyncio.get_running_loop().call_later(ALONE_S, self._show_other)

    def _show_other(self) -> None:
        self._look = None
        others = {own: config for own, config in self._members.certified().items() if own != self.gateway.own}
        if self.gateway.connected() or self._stopping:
            return
        for own, config in others.items():
            with contextlib.suppress(ConfigError):
                self.gateway.reload_tls(TlsFiles.of(config), own=own)
                self._showing_other = own != self._members.own
                log.info("nobody_in_reach", showing=own.hex())
                self.update()
        self._look_later()

    def _part_with_removed(self) -> None:
        self._timer = None
        self.update()

    def _tell_uncertified(self, error: ConfigError) -> None:
        log.error("certificate_not_usable", validator=self._members.own.hex(), error=str(error))


__all__ = ["LEAVING_S", "Admission"]
