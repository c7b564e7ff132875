"""Every function has types, but for compiled ones: numba finds those, and anew for each call.

mypy checks that a function has all of its types or none.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "models" / "phaseseg", ROOT / "ase_bridge", ROOT / "ovito_phaseseg")
COMPILED = {"jit", "exact_jit", "inner", "exact_inner", "intrinsic"}


def untyped(node):
    """Functions without types that are not compiled, nor within one that is."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef):
            yield from untyped(child)
            continue
        every = [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs, child.args.vararg,
                 child.args.kwarg]  # fmt: skip
        typed = child.returns is not None or any(one is not None and one.annotation for one in every)
        decorators = {
            getattr(one.func if isinstance(one, ast.Call) else one, "id", "") for one in child.decorator_list
        }
        if typed:
            yield from untyped(child)
        elif not decorators & COMPILED:
            yield child


@pytest.mark.slow
def test_only_compiled_functions_have_no_types():
    found = [
        f"{path.relative_to(ROOT)}, line {function.lineno}: {function.name}"
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.py"))
        # Functions that write code for LLVM handle its objects, which have no types.
        if path.parent.name != "compiled"
        for function in untyped(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(x): return x", ["f"]),
        ("def f(): pass", ["f"]),
        ("def f() -> None: pass", []),
        ("@jit\ndef f(x):\n    def g(y): return y\n    return g(x)", []),
        ("@jit(parallel=True)\ndef f(x): return x", []),
        (
            "class A:\n    def f(self): pass\n    def g(self) -> int:\n        def h(x): return x\n",
            ["f", "h"],
        ),
    ],
)
def test_functions_without_types_are_found(code, found):
    assert [function.name for function in untyped(ast.parse(code))] == found
