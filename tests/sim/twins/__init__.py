"""The Twins generator and the explicit-state search: their own tests, and the bugs that they must notice."""
