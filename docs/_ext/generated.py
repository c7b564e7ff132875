"""Parts of the pages that are made from the code, so that they cannot drift away from it."""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Markdown(SphinxDirective):
    """A directive that stands for Markdown text."""

    optional_arguments = 1

    def text(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        box = nodes.container()
        self.state.nested_parse(StringList(self.text().splitlines(), source="generated"), 0, box)
        return list(box.children)


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ") or " "


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


class FieldTable(_Markdown):
    """Every registered output name."""

    def text(self) -> str:
        from phaseseg.specs import FIELD_SPECS

        rows = [
            [f"`{spec.name}`", spec.title, spec.level, spec.kind, spec.unit, spec.description]
            for spec in FIELD_SPECS.values()
        ]
        return _table(["name", "OVITO title", "level", "kind", "unit", "meaning"], rows)


class ClassTable(_Markdown):
    """The classes of the field `phase`."""

    def text(self) -> str:
        from phaseseg.families.segmentation.fields import PHASE_CLASSES

        rows = [
            [entry.id, entry.name, "#" + "".join(f"{round(255 * c):02x}" for c in entry.color)]
            for entry in PHASE_CLASSES
        ]
        return _table(["id", "name", "color"], rows)


class OptionTable(_Markdown):
    """The options of the predictions of a family."""

    required_arguments = 1

    def text(self) -> str:
        from phaseseg.families import FAMILIES

        rows = []
        for option in FAMILIES[self.arguments[0]].options_of("run", "read"):
            default = "" if option.default is None else f"`{option.default}`"
            rows.append([f"`{option.name}`", default, option.help])
        return _table(["option", "default", "meaning"], rows)


class ModifierTable(_Markdown):
    """The parameters of a modifier: labels and defaults from its traits, words from its docstring."""

    required_arguments = 1

    def text(self) -> str:
        return modifier_table(self.arguments[0])


def modifier_table(name: str, *, groups: bool = True) -> str:
    """The parameters of a modifier or viewport layer, in the order in which OVITO shows them."""
    import ovito_phaseseg

    shown = getattr(ovito_phaseseg, name)()
    words, rows = parameters(type(shown)), []
    for name in (name for name in shown.trait_names() if shown.trait(name).label):
        trait, value = shown.trait(name), getattr(shown, name)
        text = f'"{value}"' if isinstance(value, str) else value
        default = "none" if value is None else f"`{text}`"
        group = [trait.ovito_group or ""] if groups else []
        rows.append([*group, trait.label, f"`{name}`", words[name], default])
    heads = ["name in OVITO", "name in Python", "description", "default"]
    return _table([*(["group"] if groups else []), *heads], rows)


def parameters(documented: Any) -> dict[str, str]:
    """Descriptions of the parameters in a numpy docstring, by name."""
    section = (inspect.getdoc(documented) or "").split("Parameters\n----------\n")[1]
    found: dict[str, list[str]] = {}
    name = ""
    for line in section.splitlines():
        if match := re.match(r"(\w+) : ", line):
            name = match[1]
            found[name] = []
        elif line.startswith("    "):
            found[name].append(line.strip())
        elif line.strip():
            break
    return {name: " ".join(lines) for name, lines in found.items()}


class Constants(_Markdown):
    """Text in which {NAME} stands for a constant of the weak labels."""

    has_content = True

    def text(self) -> str:
        from phaseseg.families.segmentation import rules as config
        from phaseseg.families.segmentation.labels import automatic, threshold, voids

        numbers = {"MIN_CONTRAST": f"{config.MIN_CONTRAST:g}", "COUNTED": f"{automatic.COUNTED:g}"}
        numbers["LOST"] = f"{1 - threshold.LOST[1]:.0%}"
        numbers["CLEAR_ONE"], numbers["CLEAR_TWO"] = (f"{number:g}" for number in config.CLEAR_CONTRAST)
        numbers |= {"VOID_BULK": f"{voids.BULK_QUANTILE:.0%}", "VAPOR_DENSITY": f"{voids.VAPOR_DENSITY:.0%}"}
        numbers |= {"VOID_MOLECULE": f"{voids.MOLECULE:g}", "VOID_CONTRAST": f"{voids.CONTRAST:g}"}
        return re.sub(r"\{([A-Z_]+)\}", lambda match: numbers[match[1]], "\n".join(self.content))


class CommandHelp(SphinxDirective):
    """What a command prints for --help."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        text = help_text(self.arguments[0])
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


def help_text(command: str) -> str:
    """The help of `phaseseg <command>`, 100 columns wide and without the name of the program that ran it."""
    from typer.testing import CliRunner

    from phaseseg.cli import app

    environment = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    arguments = [*command.split()[1:], "--help"]
    result = CliRunner().invoke(app, arguments, prog_name="phaseseg", env=environment)
    lines = [line.removeprefix(" ").rstrip() for line in result.stdout.splitlines()]
    return "\n".join(lines).strip("\n")


def tidy_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make our plain docstrings good reStructuredText.

    A vertical bar is a bar. Lines such as `sigma : float, Å` are a list of parameters, with or without a
    heading of their own; what follows the colon is text for readers, not the name of a type.
    """
    lines[:] = _with_entries(_with_bars(lines))


def _with_bars(lines: list[str]) -> list[str]:
    out, example = [], False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        out.append(line if example else re.sub(r"(`[^`]*`)|\|", lambda m: m[1] or r"\|", line))
    return out


def _with_entries(lines: list[str]) -> list[str]:
    out: list[str] = []
    section = ""  # heading of the section
    entry = False
    for number, line in enumerate(lines):
        rule = lines[number + 1] if number + 1 < len(lines) else ""
        if re.fullmatch(r"-{3,}", rule):
            section, entry = line, False
        elif match := re.match(r"(\**\w+(?:, \**\w+)*) : (.*)", line):
            if not section:
                section = "Parameters"
                out += ["", section, "-" * len(section)]
            first = lines[number + 1].strip() if rule.startswith(" ") else ""
            full_stop = (
                "." if (first[:1].isupper() or first.startswith('"')) and match[2][-1] not in ".;:" else ""
            )
            out += [match[1], f"    {match[2]}{full_stop}"]
            entry = True
            continue
        elif section and section != "Examples" and line and line[0] != " " and not out[-1]:
            ends = entry or not rule.startswith(" ")
            if ends:  # text after the entries: two empty lines end the list
                section, entry = "", False
                out.append("")
        out.append(f"    {line.strip()}" if entry and line.strip() else line)
    return out


def setup(app: Sphinx) -> dict[str, Any]:
    for name, directive in (
        ("field-table", FieldTable),
        ("class-table", ClassTable),
        ("option-table", OptionTable),
        ("modifier-table", ModifierTable),
        ("constants", Constants),
        ("command-help", CommandHelp),
    ):
        app.add_directive(name, directive)
    app.connect("autodoc-process-docstring", tidy_docstring, priority=400)
    return {"parallel_read_safe": True}
