"""A module that is named in a string must not lie above the module that names it.

import-linter sees import statements only. The layers are those of its contract in `pyproject.toml`. A family
names modules of its own folder in its declaration; `moved.py` names the new places of old modules.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"phaseseg": ROOT / "models" / "phaseseg", "ase_bridge": ROOT / "ase_bridge",
           "ovito_phaseseg": ROOT / "ovito_phaseseg"}  # fmt: skip
# "module", "module:name", or "word=module:name".
REFERENCE = re.compile(rf"(?:[\w-]+=)?((?:{'|'.join(SOURCES)})(?:\.\w+)+)(?::\w+)?")
FREE = {"phaseseg", "phaseseg.moved"}
"""The package itself says where its public names are, and `moved` where the old ones are."""


def layers():
    """Level of each module of the layers, 0 at the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract for contract in contracts if contract["type"] == "layers")["layers"]
    return {name.strip(" ()"): level for level, row in enumerate(rows) for name in row.split("|")}


LEVELS = layers()


def level(module):
    """Level of the layer that a module is in; None outside of all layers."""
    parts = module.split(".")
    found = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((LEVELS[name] for name in found if name in LEVELS), None)


def strings(tree):
    """Line and text of all strings, and of the arguments of `import_module` that are put together."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            yield from ((part.lineno, part) for part in node.args if isinstance(part, ast.JoinedStr))


def climbing(module, folder, tree, known):
    """Sentences about the strings of a module that name what it must not import.

    folder : the package that the module is in, or is
    known : names of all modules; other strings with dots are something else
    """
    found = []
    for line, text in strings(tree):
        if isinstance(text, ast.JoinedStr):
            written = ast.unparse(text)
            if not written[2:].startswith(("{__name__}.", f"{folder}.")):
                found.append(f"{module}, line {line}: {written} may be any module")
            continue
        match = REFERENCE.fullmatch(text)
        if match is None or match[1] not in known or match[1] == module or match[1].startswith(folder + "."):
            continue
        own, other = level(module), level(match[1])
        if own is None or other is None or other <= own:
            found.append(f"{module}, line {line}: {text!r} lies above it, or next to it")
    return found


def modules():
    for name, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if package else parts)
            yield module, module if package else ".".join(parts[:-1]), path


def test_every_module_has_a_layer():
    assert not [module for module, _, _ in modules() if module != "phaseseg" and level(module) is None]


@pytest.mark.slow
def test_no_string_climbs():
    known = {module for module, _, _ in modules()}
    found = [
        sentence
        for module, folder, path in modules()
        if module not in FREE
        for sentence in climbing(module, folder, ast.parse(path.read_text(encoding="utf-8")), known)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "code", "climbs"),
    [
        ("phaseseg.families.one.__init__", 'f(model="phaseseg.families.one.model:Model")', False),
        ("phaseseg.families.one.__init__", 'f(model="phaseseg.families.two.model:Model")', True),
        (
            "phaseseg.families.one.__init__",
            'f(commands=("mine=phaseseg.families.one.commands:mine",))',
            False,
        ),
        ("phaseseg.training.loop", 'import_module("phaseseg.families.one.fit")', True),
        ("phaseseg.training.loop", 'import_module("phaseseg.frame")', False),
        ("phaseseg.training.loop", 'import_module(f"phaseseg.families.{name}.fit")', True),
        ("phaseseg.families.__init__", 'import_module(f"{__name__}.{name}")', False),
        ("phaseseg.training.__init__", 'import_module(f"phaseseg.training.{name}")', False),
        ("phaseseg.io.text", 'load("phaseseg.io.columns:parse")', False),
        ("phaseseg.io.text", '"see phaseseg.api for more"', False),
        ("phaseseg.io.text", 'load("phaseseg.cli:main")', True),
    ],
)
def test_strings_that_climb_are_found(module, code, climbs):
    package, folder = module.endswith(".__init__"), module.rpartition(".")[0]
    own = {f"phaseseg.families.one.{name}" for name in ("model", "fit", "commands")}
    known = own | {"phaseseg.families.two.model", "phaseseg.frame", "phaseseg.io.columns", "phaseseg.cli"}
    assert bool(climbing(folder if package else module, folder, ast.parse(code), known)) == climbs
