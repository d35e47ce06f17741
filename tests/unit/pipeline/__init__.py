"""Unit tests of chain.pipeline."""
