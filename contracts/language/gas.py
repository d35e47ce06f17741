"""The gas table of all rule sets. One unit is meant to be about ten nanoseconds of one core.

Static costs are summed per basic block by the translator and charged before the block runs; dynamic costs are charged
by the operation that knows the size. Nothing here depends on caches, on the old value of a key, or on the process.
"""

from __future__ import annotations

from typing import Final

# A transaction
TRANSACTION: Final = 2_000
ARGUMENT_BYTE: Final = 4

# Plain code, per syntax node
STATEMENT: Final = 3
EXPRESSION: Final = 2
OPERATION: Final = 8  # an operator that goes through a metered helper
CALL: Final = 20  # a builtin, a method of a local value, an internal call
MULTIPLY: Final = 12
DIVIDE: Final = 24
POWER: Final = 120
FUNCTION: Final = 10  # entering an internal function
ITERATION: Final = 8
DISPLAY: Final = 20  # a tuple, list, dict or struct written down
DISPLAY_ITEM: Final = 4
TEXT_ITEM: Final = 24  # a part of an f-string
REPLACE: Final = 80  # a struct's replace

# Sizes
ITEM: Final = 4  # an item visited or copied
WALK: Final = 16  # a part of a value that is measured, checked, compared or encoded
ITEM_BYTES: Final = 8  # an item in a new list or tuple
BYTE_NEW: Final = 1  # a byte of a new string or bytes
BYTES_SEEN: Final = 32  # bytes compared, searched or hashed for lookup per unit
DICT_ENTRY: Final = 60
DICT_CROWD: Final = 4  # per entry of a dict, for keys whose hashes an attacker can choose
SORT_STEP: Final = 3

# Storage; a write never depends on the old value
READ: Final = 300
READ_BYTE: Final = 1
WIDE_BYTE: Final = 6  # on top, of a value or argument with an integer beyond 64 bits
WRITE: Final = 1_000
WRITE_BYTE: Final = 4  # of key and value
ADD: Final = 1_400  # rule set 2; a read and a write of any integer, whatever is there; the key's bytes on top
SCAN: Final = 2_000
SCAN_ITEM: Final = 150

# The world
EVENT: Final = 400
EVENT_BYTE: Final = 4
CONTRACT_CALL: Final = 1_500
CONTRACT_CALL_BYTE: Final = 2
SHA256: Final = 100
SHA256_BYTES: Final = 4  # bytes per unit
KECCAK256: Final = 300
KECCAK256_BYTE: Final = 2
SIGNATURE: Final = 12_000  # rule set 3; checking one Ed25519 signature
ENCODE: Final = 60
SOURCE_BYTE: Final = 200  # deploying and upgrading: lint, translate, compile
