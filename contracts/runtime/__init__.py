"""Running contracts: metered operations, typed storage, calls between contracts, the machine that executes transactions."""

from contracts.runtime.errors import Status
from contracts.runtime.frame import BlockContext, Outcome, State
from contracts.runtime.machine import Machine

__all__ = ["BlockContext", "Machine", "Outcome", "State", "Status"]
