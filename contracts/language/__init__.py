"""The contract language: which Python a contract may be, what it means in gas, and how it becomes code.

`check` tells a developer what is wrong, `compile_contract` makes a `CompiledContract` that `contracts.runtime` can
bind to an address, `contract_abi` describes the interface. Nothing in this package runs contract code.
"""

from contracts.language.compiler import CompiledContract, check, code_hash, compile_contract, contract_abi
from contracts.language.findings import BadSource, Finding
from contracts.language.rules import NEWEST, RULE_SETS

__all__ = [
    "NEWEST",
    "RULE_SETS",
    "BadSource",
    "CompiledContract",
    "Finding",
    "check",
    "code_hash",
    "compile_contract",
    "contract_abi",
]
