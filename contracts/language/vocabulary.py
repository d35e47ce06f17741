"""The closed lists of the language: names that are built in, methods that values have, and what is refused with advice.

Generated code can only reach what these tables name. Names with two underscores cannot be written in a contract, so
everything the translator makes up has two (`h__add`, `m__transfer`, `c__LIMIT`).
"""

from __future__ import annotations

import ast
import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)

BASES: Final = frozenset(("Contract", "Struct", "Event", "Interface"))
STORAGE_KINDS: Final = frozenset(("Value", "Map", "List"))
DECORATORS: Final = frozenset(("external", "view"))
STATEMENT_CALLS: Final = frozenset(("require", "revert", "emit"))

# Builtin -> (fewest, most positional arguments, allowed keywords)
BUILTINS: Final[dict[str, tuple[int, int, tuple[str, ...]]]] = {
    "len": (1, 1, ()),
    "min": (1, 64, ()),
    "max": (1, 64, ()),
    "abs": (1, 1, ()),
    "sum": (1, 1, ()),
    "range": (1, 3, ()),
    "sorted": (1, 1, ("reverse",)),
    "enumerate": (1, 2, ()),
    "zip": (1, 4, ()),
    "reversed": (1, 1, ()),
    "divmod": (2, 2, ()),
    "int": (1, 1, ()),
    "str": (1, 1, ()),
    "bytes": (1, 1, ()),
    "bool": (1, 1, ()),
    "tuple": (0, 1, ()),
    "list": (0, 1, ()),
    "dict": (0, 1, ()),
    "any": (1, 1, ()),
    "all": (1, 1, ()),
    "Address": (1, 1, ()),
    "sha256": (1, 1, ()),
    "keccak256": (1, 1, ()),
    "encode": (0, 64, ()),
}

CONTEXT: Final = frozenset(
    (
        "sender",
        "origin",
        "this",
        "height",
        "time_ms",
        "transaction_hash",
        "chain_id",
        "is_query",
        "is_signed",
    )
)

# Methods of local values -> (fewest, most positional arguments, allowed keywords). The run-time helper checks the type.
METHODS: Final[dict[str, tuple[int, int, tuple[str, ...]]]] = {
    # list
    "append": (1, 1, ()),
    "extend": (1, 1, ()),
    "insert": (2, 2, ()),
    "remove": (1, 1, ()),
    "reverse": (0, 0, ()),
    "sort": (0, 0, ("reverse",)),
    "copy": (0, 0, ()),
    "clear": (0, 0, ()),
    # list, dict
    "pop": (0, 2, ()),
    # list, tuple, str, bytes
    "index": (1, 1, ()),
    "count": (1, 1, ()),
    # dict
    "get": (1, 2, ()),
    "keys": (0, 0, ()),
    "values": (0, 0, ()),
    "items": (0, 0, ()),
    "setdefault": (2, 2, ()),
    "update": (1, 1, ()),
    # str, bytes
    "startswith": (1, 1, ()),
    "endswith": (1, 1, ()),
    "find": (1, 1, ()),
    "join": (1, 1, ()),
    "split": (0, 1, ()),
    "replace": (2, 2, ()),
    "strip": (0, 0, ()),
    "upper": (0, 0, ()),
    "lower": (0, 0, ()),
    "isdigit": (0, 0, ()),
    "isalpha": (0, 0, ()),
    "isalnum": (0, 0, ()),
    "zfill": (1, 1, ()),
    "encode": (0, 0, ()),
    "decode": (0, 0, ()),
    "hex": (0, 0, ()),
    # int
    "to_bytes": (2, 2, ("signed",)),
    "bit_length": (0, 0, ()),
}

# `int.from_bytes(...)`, `bytes.fromhex(...)`
CLASS_METHODS: Final[dict[tuple[str, str], tuple[int, int, tuple[str, ...]]]] = {
    ("int", "from_bytes"): (2, 2, ("signed",)),
    ("bytes", "fromhex"): (1, 1, ()),
}

_WORDS: Final = frozenset(("ctx", "self", "CallFailed"))
RESERVED: Final = frozenset(BUILTINS) | BASES | STORAGE_KINDS | DECORATORS | STATEMENT_CALLS | _WORDS

BUILTIN_ADVICE: Final[dict[str, str]] = {
    "float": "no floating point: use integers in a small unit",
    "set": "sets have no fixed order: use a list or a dict",
    "frozenset": "sets have no fixed order: use a tuple",
    "print": "a contract has no output: use emit",
    "isinstance": "types are checked at the borders: declare them",
    "type": "types are checked at the borders: declare them",
    "getattr": "attributes are named in the source",
    "setattr": "contracts have no attributes but declared storage",
    "hasattr": "attributes are named in the source",
    "hash": "differs between processes: use sha256(encode(...))",
    "id": "differs between processes",
    "repr": "use str of an int or a str",
    "map": "use a list comprehension",
    "filter": "use a list comprehension",
    "iter": "use a for loop",
    "next": "use a for loop",
    "round": "no floating point: use // with integers",
    "pow": "write base ** exponent",
    "input": "a contract reads its arguments, its storage and ctx only",
    "open": "a contract reads its arguments, its storage and ctx only",
    "Exception": "use require or revert",
    "ValueError": "use require or revert",
}

NODE_ADVICE: Final[dict[type[ast.AST], tuple[str, str]]] = {
    ast.Import: ("import", "everything a contract may use is built in"),
    ast.ImportFrom: ("import", "everything a contract may use is built in"),
    ast.Assert: ("assert", "use require(condition, 'reason'): an assert vanishes when Python optimises"),
    ast.Raise: ("raise", "use revert('reason')"),
    ast.Global: ("global", "globals are constants; state lives in Value, Map and List"),
    ast.Nonlocal: ("nonlocal", "there are no nested functions"),
    ast.With: ("with", "there are no context managers"),
    ast.AsyncWith: ("async", "contracts run one call at a time"),
    ast.AsyncFor: ("async", "contracts run one call at a time"),
    ast.AsyncFunctionDef: ("async", "contracts run one call at a time"),
    ast.Await: ("async", "contracts run one call at a time"),
    ast.FunctionDef: ("nested_function", "functions are methods of the contract class"),
    ast.ClassDef: ("nested_class", "classes stand at module level"),
    ast.Lambda: ("lambda", "write a private method"),
    ast.GeneratorExp: ("generator", "write a list comprehension: [x for x in ...]"),
    ast.Yield: ("generator", "return a tuple"),
    ast.YieldFrom: ("generator", "return a tuple"),
    ast.Set: ("set", "sets have no fixed order: use a list or a dict"),
    ast.SetComp: ("set", "sets have no fixed order: use a list or a dict"),
    ast.NamedExpr: ("walrus", "assign in a statement of its own"),
    ast.Starred: ("star", "name the items one by one"),
    ast.Match: ("match", "use if and elif"),
    ast.TryStar: ("try", "the only handler is `except CallFailed as name:`"),
    ast.Slice: ("slice", "a slice stands in brackets after a value"),
}
