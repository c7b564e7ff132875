"""The notebooks hold no outputs, begin with a file, and name what exists; `make notebooks` runs them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import phaseseg

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in content(path)["cells"] if cell["cell_type"] == kind]


def content(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_is_one_for_each_family() -> None:
    assert len(NOTEBOOKS) == len(list(phaseseg.FAMILIES)) == 4
    page = (DOCS / "notebooks.md").read_text(encoding="utf-8")
    assert {f"notebooks/{path.name}" for path in NOTEBOOKS} == set(re.findall(r"<(notebooks/\S+)>", page))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path: Path) -> None:
    code = [cell for cell in content(path)["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]], "clear all outputs"
    sources = cells(path, "code")
    trees = [ast.parse(source) for source in sources]
    imported = [
        name.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "phaseseg"
        for name in node.names
    ]
    assert "view" in imported and set(imported) <= set(phaseseg.__all__)
    last = [tree.body[-1] for tree in trees]
    assert any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.func.id == "view"
        for node in last
        if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "func", None), ast.Name)
    ), "no cell ends with a view"
    text = "\n".join(cells(path, "markdown"))
    for heading in ("# ", "Your ", "Is it right?"):
        assert heading in text
    assert "# your file" in "\n".join(sources)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_and_models_exist(path: Path) -> None:
    text = "\n".join(cells(path, "markdown"))
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / target).exists(), target
    names = re.findall(r'"((?:\w+/)?[\w-]+-v\d+)"', "\n".join(cells(path, "code")))
    known = {one.name.rpartition("/")[2] for one in phaseseg.list_checkpoints()}
    assert {name.rpartition("/")[2] for name in names} <= known
