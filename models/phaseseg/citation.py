"""How to cite phaseseg and the publications behind a checkpoint."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from typing import Any

from phaseseg.checkpoint import Checkpoint, load_checkpoint
from phaseseg.families import FAMILIES, Paper
from phaseseg.version import __version__

TITLE, AUTHOR = "ovito-phaseseg", "The ovito-phaseseg developers"


def papers_of(checkpoint: Checkpoint) -> tuple[Paper, ...]:
    """Return the publications that the card of a checkpoint names, for methods and data."""
    family = FAMILIES.get(checkpoint.family)
    text = " ".join(_texts([checkpoint.card.get("citation"), checkpoint.card.get("data")]))
    known = () if family is None else family.papers
    return tuple(paper for paper in known if any(mark in text for mark in paper.marks))


def cite(model: str | os.PathLike[str] | Checkpoint | None = None, *, bibtex: bool = False) -> str:
    """Return the citations of phaseseg and of the publications behind a checkpoint.

    Parameters
    ----------
    model : name, path or checkpoint; phaseseg alone if left out
    bibtex : entries for BibTeX instead of one line each

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read.
    """
    if model is None:
        checkpoint = None
    else:
        checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(model)
    papers = () if checkpoint is None else papers_of(checkpoint)
    version = f"version {__version__}" + (
        "" if checkpoint is None else f", checkpoint {checkpoint.name} ({checkpoint.hash[:12]})"
    )
    if bibtex:
        own = _entry("software", "ovito_phaseseg", {
            "author": f"{{{AUTHOR}}}", "title": TITLE, "version": __version__, "note": version,
        })  # fmt: skip
        return "\n\n".join([own, *map(_bibtex, papers)])
    return "\n".join([f"{AUTHOR}, {TITLE}, {version}", *map(_line, papers)])


def _texts(value: Any) -> Iterator[str]:
    """All texts of a part of a card."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _line(paper: Paper) -> str:
    names = ", ".join(paper.authors)
    pages = paper.pages.replace("-", "–")
    place = " ".join(text for text in (paper.journal, paper.volume) if text)
    where = ", ".join(text for text in (place, pages) if text) or f"arXiv {paper.arxiv}"
    doi = f", DOI {paper.doi}" if paper.doi else ""
    return f"{names}, {paper.title}, {where} ({paper.year}){doi}"


def _bibtex(paper: Paper) -> str:
    proceedings = paper.kind == "inproceedings"
    return _entry(paper.kind, paper.key, {
        "author": " and ".join(map(_last_first, paper.authors)), "title": f"{{{paper.title}}}",
        "booktitle" if proceedings else "journal": paper.journal, "volume": paper.volume,
        "pages": paper.pages.replace("-", "--"), "year": str(paper.year), "doi": paper.doi,
        "eprint": paper.arxiv, "archiveprefix": "arXiv" if paper.arxiv else "",
    })  # fmt: skip


def _last_first(name: str) -> str:
    """Return `Family, Given`; the particles of a family name are in lower case."""
    words = name.split()
    start = next((k for k, word in enumerate(words) if word.islower()), len(words) - 1)
    return f"{' '.join(words[start:])}, {' '.join(words[:start])}"


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    rows = "\n".join(f"  {name} = {{{_latex(text)}}}," for name, text in fields.items() if text)
    return f"@{kind}{{{key},\n{rows}\n}}"


_ACCENTS = {"\u0301": "'", "\u0300": "`", "\u0302": "^", "\u0308": '"', "\u0303": "~", "\u030c": "v "}


def _latex(text: str) -> str:
    """Letters with accents as BibTeX of any age reads them."""
    made = ""
    for character in unicodedata.normalize("NFD", text):
        if character in _ACCENTS and made:
            made = f"{made[:-1]}{{\\{_ACCENTS[character]}{{{made[-1]}}}}}"
        else:
            made += character
    return made
