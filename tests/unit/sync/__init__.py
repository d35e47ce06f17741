"""Unit tests of chain.sync."""
