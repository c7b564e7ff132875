"""Solubility of molecules from their bonds: a small example of message passing."""
