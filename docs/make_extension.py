"""Write the tables of docs/extension.md anew: `python docs/make_extension.py`.

They come from the traits and docstrings of the modifiers and from pyproject.toml. Needs the extra `ovito`.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext")]

from generated import modifier_table  # noqa: E402

PAGE = HERE / "extension.md"
KINDS = {
    "OVITO.Modifier": "modifier",
    "OVITO.ViewportOverlay": "viewport layer",
    "OVITO.FileReader": "file reader",
}
TESTED = ("3.11", "3.12", "3.13", "3.14")
"""Versions of CPython on which the smoke run of `make release-check` has passed."""
DIRECTORY = {"modifier": "Modifiers", "viewport layer": "Viewport layers", "file reader": "File readers"}


def entries(project: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Kind, name in OVITO and name in Python of everything that the package registers."""
    return [
        (kind, title, target.partition(":")[2])
        for group, kind in KINDS.items()
        for title, target in project["entry-points"][group].items()
    ]


def first_sentence(name: str) -> str:
    import ovito_phaseseg

    text = inspect.getdoc(getattr(ovito_phaseseg, name)) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def made() -> dict[str, str]:
    """The generated parts of the page, by name."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    found = entries(project)
    rows = [f"| {title} | `{name}` | {kind} | {first_sentence(name)} |" for kind, title, name in found]
    overview = ["| name in OVITO | name in Python | kind | what it does |", "|---|---|---|---|", *rows]
    tables = []
    for kind, title, name in found:
        if kind != "file reader":
            tables += [f"### {title} (`{name}`)", "", modifier_table(name, groups=False), ""]
    python = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert set(python) == set(TESTED), "not every version of CPython is tested"
    needed = next(iter(project["optional-dependencies"]["ovito"]))
    technical = [
        "- Tested on OVITO 3.17.2 (free module) on Linux; the package needs `" + needed + "`",
        f"- Tested on CPython {', '.join(TESTED)}: every command and modifier of the installed wheel",
        "- The viewer was tested in Chromium 156, also within JupyterLab 4.6, with WebGL in software",
        "- Not tried: the window of OVITO Pro, which has other widgets for the same parameters",
        "- Not tried: Windows and macOS; the viewer on a graphics card and in other browsers",
        f"- License: {project['license']}",
        f"- Keywords: {', '.join(project['keywords'])}",
    ]
    kinds = dict.fromkeys(DIRECTORY[kind] for kind, *_ in found)
    entry = [
        "| | |", "|---|---|",
        "| Title | ovito-phaseseg: two liquids, glasses, mobility and environments |",
        f"| One line | {project['description']} |",
        f"| Author | {', '.join(author['name'] for author in project['authors'])} |",
        f"| License | {project['license']} |",
        "| Picture | `examples/two-liquids.png` |",
        f"| Listed under | {', '.join(kinds)} |",
        f"| Keywords | {', '.join(project['keywords'])} |",
    ]  # fmt: skip
    return {
        "description": project["description"] + ".",
        "overview": "\n".join(overview),
        "parameters": "\n".join(tables).rstrip(),
        "technical": "\n".join(technical),
        "entry": "\n".join(entry),
    }


def page(text: str) -> str:
    """The page with its generated parts renewed."""
    parts = made()

    def renewed(match: re.Match[str]) -> str:
        return f"<!-- made: {match[1]} -->\n{parts.pop(match[1])}\n<!-- end -->"

    text = re.sub(r"<!-- made: (\w+) -->\n.*?<!-- end -->", renewed, text, flags=re.DOTALL)
    assert not parts, f"the page lacks {', '.join(parts)}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    print(f"Written: {PAGE}")
