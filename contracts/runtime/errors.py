"""How a call can fail: one tree of contract errors, each with a status; everything else is a bug of ours."""

from __future__ import annotations

import enum
from types import TracebackType
from typing import Final

from chain.errors import InvariantError
from contracts.language.compiler import CODE_FILE


class Status(enum.IntEnum):
    """The status of a receipt. Numbers are consensus data and never change their meaning."""

    OK = 0
    REVERTED = 1  # require or revert; the error is its reason
    OUT_OF_GAS = 2
    UNKNOWN_CONTRACT = 3
    UNKNOWN_METHOD = 4
    BAD_ARGUMENTS = 5
    FROZEN = 6
    FORBIDDEN = 7  # a write in a view; not the admin; not a deployer
    BAD_SOURCE = 8
    LIMIT = 9  # depth, size of a value, length of a key
    ARITHMETIC = 10  # division by zero, an integer out of range
    TYPE = 11
    MISSING_KEY = 12


class ContractError(Exception):
    """The contract's, or its caller's, fault: ends in a receipt. `reason` is deterministic and bounded."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class OutOfGas(ContractError):
    """Ends the whole transaction; no contract can catch it."""

    def __init__(self) -> None:
        super().__init__(Status.OUT_OF_GAS, "out_of_gas")


class CallFailed(ContractError):
    """A call into another contract failed and its writes and events are gone. The only error contracts can catch."""


class Failure:
    """What a contract sees of a `CallFailed`: `failure.reason`, `failure.status`."""

    __slots__ = ("f_reason", "f_status")

    def __init__(self, error: CallFailed) -> None:
        self.f_reason = error.reason
        self.f_status = int(error.status)


# Python's own errors that contract code can provoke, and what they are. Their texts are Python's and not used.
_PYTHON_ERRORS: Final[tuple[tuple[type[Exception], Status, str], ...]] = (
    (ZeroDivisionError, Status.ARITHMETIC, "division_by_zero"),
    (OverflowError, Status.ARITHMETIC, "integer_range"),
    (KeyError, Status.MISSING_KEY, "missing_key"),
    (IndexError, Status.MISSING_KEY, "index_out_of_range"),
    (NameError, Status.TYPE, "unassigned_name"),
    (AttributeError, Status.TYPE, "no_such_field"),
    (ValueError, Status.TYPE, "bad_value"),
    (TypeError, Status.TYPE, "wrong_type"),
)
PYTHON_ERRORS: Final[tuple[type[Exception], ...]] = tuple(entry[0] for entry in _PYTHON_ERRORS)
_OF_CONTRACT_CODE: Final = (NameError, AttributeError)  # raised in our own code, these are our bug
CALL_ERRORS: Final[tuple[type[Exception], ...]] = (ContractError, *PYTHON_ERRORS)


def contract_error(error: Exception) -> tuple[Status, str]:
    """Status and reason of what `error` is to a contract, with the line of the contract where it arose.

    Only the error's class counts, never its text, so that versions of Python cannot differ.

    Raises:
        InvariantError: not an error that contract code can cause.
    """
    if isinstance(error, ContractError):
        if error.status in (Status.REVERTED, Status.OUT_OF_GAS) or isinstance(error, CallFailed):
            return error.status, error.reason
        return error.status, _located(error.reason, error.__traceback__)
    for kind, status, reason in _PYTHON_ERRORS:
        if isinstance(error, kind):
            if kind in _OF_CONTRACT_CODE and not _in_contract(error.__traceback__):
                break
            return status, _located(reason, error.__traceback__)
    raise InvariantError(f"{type(error).__name__} in contract execution: {error}") from error


def _in_contract(traceback: TracebackType | None) -> bool:
    """True if the error was raised by a line of contract code itself."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename == CODE_FILE


def _located(reason: str, traceback: TracebackType | None) -> str:
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == CODE_FILE:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f"{reason} (line {line})" if line else reason
