"""Parameters of modifiers: options converted to OVITO traits and documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovito.pipeline import ModifierInterface
from ovito.traits import FilePath
from traits.api import Bool, Enum, Float, Int, Range, Str, Union

from phaseseg.checkpoint import SUFFIX, bundled_checkpoints
from phaseseg.families import Family, Option, family_named


def shown_options(family: Family, *parts: str) -> list[Option]:
    """Return the options of a family that OVITO shows."""
    return [option for option in family.options_of(*parts) if option.label]


def all_options(family: str, options: Sequence[Option]) -> list[Option]:
    """Return the parameters of the modifier of a family (none for ""), followed by `options`."""
    return [*(parameters_of(family_named(family)) if family else ()), *options]


def parameters_of(family: Family) -> list[Option]:
    """Return all parameters of the modifier of a family, in the order in which OVITO shows them."""
    # The default comes first, even if it is not among the bundled files.
    models = tuple(filter(None, dict.fromkeys([family.default, *bundled_checkpoints(family.name)])))
    run, units = shown_options(family, "run"), tuple(dict.fromkeys([*family.units, "metal"]))
    # The names of the types go into the group of an option that names species, if there is one.
    group = next((option.group for option in run if option.type is tuple), "Network")
    return [
        Option("model", str, models[0] if models else "", "Bundled checkpoint.", "run", models,
               label="Checkpoint", group="Network"),
        Option("model_file", Path, "", "Your own checkpoint file (`phaseseg train`), instead of `model`.",
               "run", label="Own file (empty: the checkpoint above)", group="Network"),
        Option("device", str, "auto", "Compiled loops (auto, cpu), or PyTorch on CPU (torch) or GPU (cuda).",
               "run", ("auto", "cpu", "torch", "cuda"), label="Device", group="Network"),
        *run,
        *(option for option in types_of_file(group, "A,B" if "lj" in units else "Fe,Mg,Si,O,N")
          if option.name not in [one.name for one in family.options]),
        *([Option("units", str, units[0], "Units of the file; they must match those of the network.", "run",
                  units, label="Units of the file", group=group)] if "lj" in units else []),
        *shown_options(family, "read"),
    ]  # fmt: skip


def types_of_file(group: str, example: str) -> tuple[Option, Option]:
    """Return the parameters for the names of the particle types and for the meaning of other names."""
    meaning = "Names of particle types 1, 2, ..., comma separated, replacing those in the file."
    look: dict[str, Any] = {"label": "Names of types 1, 2, ...", "group": group, "placeholder": example}
    types = Option("types", tuple, None, meaning, "run", **look)
    meaning = "What atom names or names of types stand for, comma separated: `MW=X,Me1=C` (X has no mass)."
    look |= {"label": "Meaning of names", "placeholder": "MW=X,Me1=C"}
    return types, Option("names", tuple, None, meaning, "run", **look)


def documented(option: Option) -> str:
    """Return the docstring entry of an option."""
    kind = " or ".join(f'"{choice}"' for choice in option.choices)
    kind = kind or ("str" if option.type in (tuple, Path) else option.type.__name__)
    return f"    {option.name} : {kind}, default {option.default!r}\n        {option.help}\n"


def trait_of(option: Option) -> Any:
    """Return the trait of an option; OVITO keeps its cache when an option of part "read" changes."""
    look: dict[str, Any] = {"label": option.label, "ovito_group": option.group}
    if option.part == "read":
        look["ovito_invalidate_cache"] = False
    if option.placeholder:
        look["ovito_placeholder"] = option.placeholder
    if option.choices:
        choices = list(option.choices) if option.default is not None else ["", *option.choices]
        return Enum(option.default or "", choices, **look)
    if option.type is Path:
        files = [f"Checkpoints (*{SUFFIX})", "All files (*)"]
        return FilePath(option.default, ovito_file_filter=files, **look)
    if option.type in (str, tuple):
        return Str(option.default or "", **look)
    plain = {bool: Bool, int: Int, float: Float}[option.type]
    if option.default is None:
        return Union(None, plain, **look)
    if option.low is None and option.high is None:
        return plain(option.default, **look)
    number: Any = option.type
    ends = {name: getattr(option, name) for name in ("low", "high")}
    bounds: dict[str, Any] = {name: number(end) for name, end in ends.items() if end is not None}
    bounds |= {f"exclude_{name}": option.open for name in bounds}
    return Range(value=number(option.default), **bounds, **look)


class _WithOptions(type(ModifierInterface)):  # type: ignore[misc]
    """Adds the parameters of a family and further options to a class, as traits and in its docstring."""

    @classmethod
    def __prepare__(mcs, name: str, bases: Any, family: str = "", options: Any = ()) -> dict[str, Any]:
        declared: dict[str, Any] = {}
        if family:
            found = family_named(family)
            declared = {"family": found, "heading": found.title, "prefix": f"{name}.", "tables": f"{family}-"}
            declared |= {"file_units": found.units[0]}
            declared |= {"renames": "names" not in [option.name for option in found.options]}
        return declared | {option.name: trait_of(option) for option in all_options(family, options)}

    def __new__(
        mcs, name: str, bases: Any, namespace: dict[str, Any], family: str = "", options: Any = ()
    ) -> Any:
        options = (*options, *(one for base in bases for one in getattr(base, "inherited", ())))
        namespace["inherited"] = options  # those that derived classes document, too
        if entries := "".join(map(documented, all_options(family, options))):
            title, _, text = namespace.get("__doc__", f"{namespace.get('heading')}.").partition("\n\n")
            namespace["__doc__"] = f"{title}\n\n    Parameters\n    ----------\n{entries}\n{text}"
        return super().__new__(mcs, name, bases, namespace)


class CheckedModifier(ModifierInterface, metaclass=_WithOptions):
    """Rejects unknown keywords, which OVITO would silently accept as new attributes.

    `class MyModifier(CheckedModifier, options=[...])` has these options as parameters.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # parameters; type checkers do not see traits

    def __init__(self, **parameters: Any) -> None:
        known = self.parameters()
        looks = [name for name in self.trait_names() if name.endswith("_vis")]
        unknown = [name for name in parameters if name not in known and name not in looks]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}; "
                f"the parameters are {', '.join(known)}."
            )
        super().__init__(**parameters)

    def parameters(self) -> list[str]:
        """Return the parameter names, in the order in which OVITO shows them."""
        return [name for name in self.trait_names() if self.trait(name).label]
