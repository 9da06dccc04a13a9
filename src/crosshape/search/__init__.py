"""Answers from a library: search, duplicates, groups, tags."""
