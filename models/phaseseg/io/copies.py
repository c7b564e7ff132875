"""Frames as extended XYZ with everything that was in their file: copied where it is extended XYZ already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from phaseseg.io.reading import count_of, next_text
from phaseseg.io.source import ByteSource
from phaseseg.io.write import entry

_PROPERTIES = re.compile(r"""(?<![^\s])properties\s*=\s*("[^"]*"|'[^']*'|\S+)""", re.IGNORECASE)
_PLAIN = "species:S:1:pos:R:3"


@dataclass(frozen=True)
class FrameText:
    """A frame of extended XYZ as text: its number in the file, its comment line, and a line for each atom."""

    index: int
    comment: str
    lines: list[str]

    def extended(self, entries: Mapping[str, Any], columns: Mapping[str, ArrayLike]) -> str:
        """Return the text with entries added to the comment line, and columns to the lines of the atoms.

        entries : numbers or words by name; columns : (n_atoms,) bool, integers or floats by name
        """
        comment, lines = self.comment, self.lines
        if columns:
            said = _PROPERTIES.search(comment)
            properties = said[1].strip("\"'") if said else _PLAIN
            lines = lines if said else [" ".join(line.split()[:4]) for line in lines]
            kinds, words = zip(*map(_column, columns.values()), strict=True)
            properties += "".join(f":{name}:{kind}:1" for name, kind in zip(columns, kinds, strict=True))
            added = f"Properties={properties}"
            comment = (
                comment[: said.start()] + added + comment[said.end() :] if said else f"{comment} {added}"
            )
            lines = [" ".join(parts) for parts in zip(lines, *words, strict=True)]
        comment = " ".join([comment.rstrip(), *(entry(name, value) for name, value in entries.items())])
        return "\n".join([str(len(lines)), comment, *lines, ""])


def _column(values: ArrayLike) -> tuple[str, list[str]]:
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return "R", [f"{value:.10g}" for value in array.tolist()]
    return "I", [str(int(value)) for value in array.tolist()]


def copied(path: Path) -> Iterator[FrameText]:
    """The frames of an extended XYZ file, every digit as it is."""
    with closing(ByteSource(path)) as source:
        while (line := next_text(source)) is not None:
            n_atoms = count_of(source, line)
            comment = source.line() or ""
            body = source.block(n_atoms).decode("utf-8", "replace")
            yield FrameText(source.frame, comment, [row.rstrip("\r") for row in body.split("\n")][:n_atoms])
            source.frame += 1


def text_of(index: int, text: str) -> FrameText:
    """A frame of extended XYZ, taken apart."""
    _, comment, *lines = text.rstrip("\n").split("\n")
    return FrameText(index, comment, lines)


def from_ase(atoms: Any) -> str:
    """Everything that ASE writes of a structure, including the results of its calculator."""
    import ase.io

    text = StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue()
