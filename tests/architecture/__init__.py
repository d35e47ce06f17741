"""House rules, checked."""
