"""Command-line flags made from the declarations of families."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from math import inf, isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from phaseseg.terminal.options import Threads, number_or_name, numbers, split_names
from phaseseg.training.settings import setting


@dataclass(frozen=True)
class Flag:
    """A flag declared by a family.

    name : keyword of the family
    decl : as typed, `--name`
    kind : bool, int, float, str or Path; type of the elements if `listed` or `multiple`
    default : None if the family decides; MISSING if the flag is required
    listed : whether the value is a comma-separated text like `example`
    multiple : whether the flag may be repeated
    low, high, open, choices : allowed values, as in `Option`
    or_name : whether a number is accepted besides a name
    families : names of the families that have the flag
    """

    name: str
    decl: str
    kind: Any
    default: Any
    help: str
    choices: tuple[str, ...]
    multiple: bool
    listed: bool
    low: float | None = None
    high: float | None = None
    open: bool = False
    example: str = ""
    or_name: bool = False
    families: tuple[str, ...] = ()

    def parameter(self) -> inspect.Parameter:
        """Return the flag as a parameter of a command; the help groups flags of a single family."""
        kind, default, decls = str if self.listed else self.kind, self.default, [self.decl]
        if self.multiple:
            kind, default = list[self.kind], None  # type: ignore[name-defined]
        elif self.listed and isinstance(default, tuple):
            default = ",".join(f"{one:.17g}" if isinstance(one, float) else str(one) for one in default)
        elif kind is bool and default is not False:
            decls = [f"{self.decl}/--no-{self.decl.removeprefix('--')}"]
        unsaid = any(choice not in self.help for choice in self.choices)
        words = f"{self.help} {' | '.join(self.choices)}" if unsaid else self.help
        panel = f"Networks of the family {self.families[0]}" if len(self.families) == 1 else None
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=Annotated[
                kind | None if default is None else kind,
                typer.Option(*decls, help=words, rich_help_panel=panel),
            ],
        )  # fmt: skip

    def value(self, given: Any) -> Any:
        """Convert the typed value for the family; ValueError for unreadable text."""
        if self.multiple:
            return tuple(given)
        if self.listed:
            return split_names(given) if self.kind is str else numbers(given, self.decl, self.example)
        return number_or_name(given) if self.or_name else given

    def check(self, given: Any) -> None:
        """Raise ValueError for a value outside the declared range or choices."""
        for one in given if self.multiple else (given,):
            if self.choices and one not in self.choices:
                raise ValueError(f"{self.decl} must be one of {', '.join(self.choices)}, found {one!r}.")
            if self.kind not in (int, float) or self.listed:
                continue
            low = -inf if self.low is None else self.low
            high = inf if self.high is None else self.high
            if not isfinite(one) or not (low < one < high if self.open else low <= one <= high):
                allowed = f"between {low:g} and {high:g}" if high < inf else f"of at least {low:g}"
                if (low, high) == (-inf, inf):
                    allowed = "that is finite"
                excluded = ", the limits excluded" if self.open else ""
                raise ValueError(f"{self.decl} must be a number {allowed}{excluded}, found {one:g}.")


def option_flags(families: Iterable[Any], *parts: str) -> list[Flag]:
    """Return the flags for the options of families, and for the bond tables that they write.

    Options with the same name in several families share one flag and must have the same type.

    families : `Family` objects
    parts : parts of the options to include; bond tables belong to "read"
    """
    found: dict[str, list[Flag]] = {}
    for family in families:
        own = [
            Flag(
                option.name, option.cli, str if option.type is tuple else option.type, option.default,
                option.help, option.choices, option.multiple, option.type is tuple, option.low, option.high,
                option.open, families=(family.name,),
            )
            for option in family.options_of(*parts) if option.cli
        ]  # fmt: skip
        for bonds in family.bond_files if "read" in parts else ():
            decl = f"--{bonds.option.replace('_', '-')}"
            own.append(
                Flag(bonds.option, decl, Path, None, bonds.help, (), False, False, families=(family.name,))
            )
        for flag in own:
            found.setdefault(flag.name, []).append(flag)
    return [_merged(*same) for same in found.values()]


def _merged(first: Flag, *others: Flag) -> Flag:
    """Return the flag for options with the same name."""
    for other in others:
        if (first.decl, first.kind, first.listed) != (other.decl, other.kind, other.listed):
            raise ValueError(
                f"the families {first.families[0]} and {other.families[0]} declare different flags "
                f"named {first.name}; rename one of the options."
            )
    same = (first, *others)
    words = {flag.help: f"{flag.families[0]}: {flag.help.rstrip('.')}" for flag in same}
    return replace(
        first,
        default=first.default if all(flag.default == first.default for flag in same) else None,
        help=first.help if len(words) == 1 else f"{'; '.join(words.values())}.",
        families=tuple(name for flag in same for name in flag.families),
    )


def setting_flags(settings: type) -> list[Flag]:
    """Return the flags for the fields of a settings dataclass, plain or made by `training.setting`.

    A flag is a bool, int, float, str or Path, a Literal, or a tuple or list of one of these. Fields of other
    types can only be set in Python.
    """
    types, flags = get_type_hints(settings), []
    for field in fields(settings):
        if not field.init:
            continue
        about, kind, names = {**setting(help="").metadata, **field.metadata}, types[field.name], False
        if get_origin(kind) in (Union, UnionType):
            kind, *others = (one for one in get_args(kind) if one is not NoneType)
            names = bool(others)  # a number or the name of a rule
        if get_origin(kind) is Literal:
            about["choices"] = about["choices"] or get_args(kind)
            kind = type(get_args(kind)[0])
        listed = get_origin(kind) in (tuple, list)
        kind = get_args(kind)[0] if listed else kind
        if kind not in (bool, int, float, str, Path):
            continue
        default = field.default if field.default_factory is MISSING else tuple(field.default_factory())
        flags.append(
            Flag(
                field.name, about["flag"] or f"--{field.name.replace('_', '-')}", str if names else kind,
                default, about["help"] or f"The setting {field.name}.", tuple(about["choices"]),
                about["multiple"], listed and not about["multiple"], example=about["example"], or_name=names,
            )
        )  # fmt: skip
    return flags


def keywords_of(settings: Any) -> dict[str, Any]:
    """Return the keywords of the training function: `settings.fit_options()`, or the fields."""
    if hasattr(settings, "fit_options"):
        return dict(settings.fit_options())
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def with_flags(command: Callable[..., None], flags: Sequence[Flag], after: str) -> Callable[..., None]:
    """Return the command for Typer, with flags of families added to its parameters.

    command : function with the parameters `context: typer.Context` and `given`, a mapping of flags to typed
        values without the flags that were left out
    after : name of the parameter after which the flags are inserted
    """
    parameters = []
    own = inspect.signature(command, eval_str=True).parameters
    for name, parameter in own.items():
        if name != "given":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        if name == after:
            parameters += [flag.parameter() for flag in flags]
    for flag in flags:
        if flag.name in own:
            raise ValueError(f"{flag.decl} is a flag of every family; rename the option {flag.name}.")

    def called(**values: Any) -> None:
        typed = {flag: values.pop(flag.name) for flag in flags}
        source = values["context"].get_parameter_source
        given = {flag: value for flag, value in typed.items() if source(flag.name).name == "COMMANDLINE"}
        command(given=given, **values)

    return _with_signature(called, command, parameters)


def with_threads(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command for Typer with the option --threads, within which it runs."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    names = [parameter.name for parameter in own]
    place = names.index("workers") + 1 if "workers" in names else len(own)
    option = inspect.Parameter("threads", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Threads)
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters.insert(place, option)

    def called(*, threads: int | None, **values: Any) -> None:
        from phaseseg.compiled.threads import threads as on_threads

        with on_threads(threads):
            command(**values)

    return _with_signature(called, command, parameters)


def _with_signature(
    called: Callable[..., None], command: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    called.__doc__, called.__name__ = command.__doc__, command.__name__
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return called


def refuse_others(given: Iterable[Flag], checkpoint: Any) -> None:
    """Raise ValueError for a flag that the family of the checkpoint does not have."""
    for flag in given:
        if checkpoint.family not in flag.families:
            raise ValueError(
                f"{flag.decl} is an option for networks of the family {' or '.join(flag.families)}, and "
                f"{checkpoint.name} is of the family {checkpoint.family}; omit it."
            )
