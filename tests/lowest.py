"""Constraints for pip: the lowest version of every direct dependency in `pyproject.toml`, and some bounds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OF_OTHERS = ["pyparsing<3.3"]  # later ones warn of what the lowest matplotlib calls
BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def lowest() -> list[str]:
    """A requirement a line: `name==version`, or a bound on what these depend on."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    extras = [
        line for name, lines in project["optional-dependencies"].items() if name != "all" for line in lines
    ]
    matches = (
        BOUND.match(line)
        for line in (*project["dependencies"], *extras, *settings["dependency-groups"]["test"])
    )
    return sorted({f"{match[1]}=={match[2]}" for match in matches if match}) + OF_OTHERS


if __name__ == "__main__":
    print("\n".join(lowest()))
