"""The methods of the API, by subject. Importing this package declares them all in `chain.rpc.definitions.METHODS`."""

from chain.rpc.methods import blocks, contracts, evidence, node, proofs, transactions

__all__ = ["blocks", "contracts", "evidence", "node", "proofs", "transactions"]
