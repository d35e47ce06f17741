"""Unit tests of chain.node."""
