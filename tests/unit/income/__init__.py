"""Tests of the income verification suite."""
