"""Signatures of every kind, and who accepts them."""
