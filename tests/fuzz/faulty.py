"""Inputs that go wrong on purpose: they test the watchdog."""

from __future__ import annotations

import os
import time
from random import Random
from typing import Any


def _raise() -> Any:
    return {}["x"]


def _grow() -> Any:
    kept = [bytes(1 << 24).replace(b"\0", b"x") for _ in range(200)]
    time.sleep(20)
    return kept


BAD = {"dies": lambda: os._exit(7), "hangs": lambda: time.sleep(60), "grows": _grow, "raises": _raise}


def run(kind: str, random: Random) -> str:
    """Go wrong for about half of the inputs."""
    if random.random() < 0.5:
        BAD[kind]()
    return "fine"
