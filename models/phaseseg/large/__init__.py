"""Frames larger than memory: their atoms in layers on disk, and arrays of a whole frame in files."""
