"""The shapes of a folder, prepared, in one Lance dataset: add, update, remove, read, features."""
