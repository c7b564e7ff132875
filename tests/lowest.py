"""Print the lowest version of every direct dependency of `pyproject.toml`, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def lowest() -> list[str]:
    """`name==version`, a line each."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    extras = [
        line for name, lines in project["optional-dependencies"].items() if name != "all" for line in lines
    ]
    matches = (
        BOUND.match(line)
        for line in (*project["dependencies"], *extras, *settings["dependency-groups"]["test"])
    )
    return sorted({f"{match[1]}=={match[2]}" for match in matches if match})


if __name__ == "__main__":
    print("\n".join(lowest()))
