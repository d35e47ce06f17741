"""Tests of `executor`, a file a module."""
