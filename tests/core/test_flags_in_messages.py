"""Messages of the library name arguments of Python; flags are named where the command line is known."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "models" / "phaseseg"
FLAG = re.compile(r"(?<![\w-])--[a-z]")
COMMANDS = {"cli", "terminal", "recipes"}
KNOWN = {"display.py", "large/kept.py"}
"""`display.option` itself; and results that are kept in a folder, which only commands do."""


def flags(tree):
    """Texts with flags outside of docstrings."""
    described = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in described else None
        if isinstance(text, str) and FLAG.search(text):
            yield text


def test_no_message_of_the_library_names_a_flag():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if name.parts[0] in COMMANDS or name.name == "commands.py" or name.as_posix() in KNOWN:
            continue
        if texts := list(flags(ast.parse(path.read_text(encoding="utf-8")))):
            found[name.as_posix()] = texts
    assert not found


def test_flags_are_found():
    tree = ast.parse('"""--a"""\ndef f(x):\n    """--b"""\n    raise ValueError(f"{x}: give --c")')
    assert list(flags(tree)) == [": give --c"]
