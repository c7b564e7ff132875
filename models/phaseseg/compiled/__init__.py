"""Compiled loops: how they are compiled, vectors in them, and memory that is used again."""
