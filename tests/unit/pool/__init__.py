"""Unit tests of chain.pool."""
