"""Compiled loops: how they are compiled, vector instructions, dense layers and reused memory."""
