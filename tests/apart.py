"""Measurements in a process of their own, where memory and compiled code are nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def run_apart(file, call):
    """What `call`, as `measure(3)`, of the test module `file` prints as JSON in a new process."""
    here = Path(file)
    paths = [str(here.parent), str(here.parent.parent), *sys.path]
    result = subprocess.run(
        [sys.executable, "-c", f"import {here.stem} as t; t.{call}"], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip
    return json.loads(result.stdout)
