"""The methods of the API, by subject. Importing this package declares them all in `chain.rpc.definitions.METHODS`."""

from chain.rpc.methods import blocks, contracts, node, proofs, transactions

__all__ = ["blocks", "contracts", "node", "proofs", "transactions"]
