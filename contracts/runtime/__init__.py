"""Running contracts: metered operations, typed storage, calls between contracts, and the machine that executes them."""

from contracts.runtime.adds import Add, integer_bytes, integer_of, settle
from contracts.runtime.errors import Status
from contracts.runtime.frame import BlockContext, Outcome, State
from contracts.runtime.machine import Machine

__all__ = [
    "Add",
    "BlockContext",
    "Machine",
    "Outcome",
    "State",
    "Status",
    "integer_bytes",
    "integer_of",
    "settle",
]
