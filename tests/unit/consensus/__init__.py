"""Unit tests of the PBFT core."""
