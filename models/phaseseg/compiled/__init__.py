"""Compiled loops: how they are compiled, threads, vector instructions, dense layers and reused memory."""
