"""Node to node: mutual TLS, one authenticated connection per validator pair, channels with priority, requests."""

from chain.net.counters import PeerCounters
from chain.net.duplicates import DuplicateValidatorError, duplicate_validator
from chain.net.frames import ByeReason, Channel
from chain.net.gateway import Gateway, GatewayHandlers, GatewayTimes
from chain.net.tls import TlsFiles

__all__ = [
    "ByeReason", "Channel", "DuplicateValidatorError", "Gateway", "GatewayHandlers", "GatewayTimes", "PeerCounters",
    "TlsFiles", "duplicate_validator",
]  # fmt: skip
