"""Tests of the credit reporting suite."""
