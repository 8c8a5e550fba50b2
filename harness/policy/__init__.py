"""Decisions of the harness: pure functions from values to a value."""
