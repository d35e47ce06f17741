"""The records of the chain, its trees and its proofs."""
