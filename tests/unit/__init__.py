"""Unit tests; the folders mirror the sources."""
