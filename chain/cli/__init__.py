"""The command line `headrace`: networks, accounts, contracts, proofs, the demo, and commands of other packages."""
