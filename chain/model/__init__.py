"""What the chain is made of: transactions, proposals, blocks, receipts, votes' subjects, genesis, proofs."""
