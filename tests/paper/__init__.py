"""One test for each rule of PBFT, the rule quoted."""
