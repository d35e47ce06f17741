"""Bounds of the language and of its values. All of them are consensus rules of rule sets 1 and 2."""

from __future__ import annotations

from typing import Final

# Source text
SOURCE_BYTES_MAX: Final = 128 * 1024
BRACKET_DEPTH_MAX: Final = 20
BLOCK_DEPTH_MAX: Final = 12
ELIF_RUN_MAX: Final = 32
LINE_OPERATORS_MAX: Final = 2_000  # per logical line; a table of constants is one logical line
LINE_NESTING_MAX: Final = 200  # tokens of one logical line that can nest without a bracket
EXPRESSION_DEPTH_MAX: Final = 32
NUMBER_CHARS_MAX: Final = 80
NAME_CHARS_MAX: Final = 64
METHODS_MAX: Final = 256
PARAMETERS_MAX: Final = 16
FIELDS_MAX: Final = 32
TYPE_LEAVES_MAX: Final = 64
TYPE_DEPTH_MAX: Final = 6
CALL_CHAIN_MAX: Final = 32  # longest chain of internal calls that are not recursive

# Values
INTEGER_MIN: Final = -(2**255)  # of what is stored, passed, returned, emitted
INTEGER_MAX: Final = 2**256 - 1
LOCAL_INTEGER_BITS_MAX: Final = 1_024  # of what is computed on the way
VALUE_BYTES_MAX: Final = 1024 * 1024
SEQUENCE_ITEMS_MAX: Final = 128 * 1024
DICT_ITEMS_MAX: Final = 16 * 1024
VALUE_NESTING_MAX: Final = 14
INTEGER_TEXT_CHARS_MAX: Final = 320
KEY_BYTES_MAX: Final = 480
REASON_CHARS_MAX: Final = 160
EVENTS_MAX: Final = 1_024  # per transaction
SCAN_ITEMS_MAX: Final = 10_000

# Calls
CALL_DEPTH_MAX: Final = 32  # contracts on the stack
RECURSION_DEPTH_MAX: Final = 64  # recursive internal calls on the stack, over all contracts on it
