"""The contract language, its runtime, the system contract and the contract suites."""
