"""The kinds of inputs, and the function that runs one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from random import Random

READERS = ("dump", "bin", "xyz", "xdatcar", "gro", "poscar", "data", "pdb", "npz", "pickle", "cif", "traj")
MODULES = dict.fromkeys(READERS, "readers") | {
    "frames": "frames", "checkpoints": "checkpoints", "commands": "commands", "modifiers": "modifiers"
}  # fmt: skip
KINDS = tuple(MODULES)
MODULES |= dict.fromkeys(("dies", "hangs", "grows", "raises"), "faulty")


def runner(kind: str) -> Callable[[str, Random], str]:
    """Return the function that runs one input of a kind: it raises for a fault and returns the outcome.

    What it needs is compiled before.
    """
    module = import_module(f"fuzz.{MODULES[kind]}")
    if hasattr(module, "warm"):
        module.warm()
    run: Callable[[str, Random], str] = module.run
    return run
