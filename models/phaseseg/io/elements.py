"""Elements of the atom names in GRO and PDB files, which often do not state the element.

`CA` is a carbon atom in a protein and calcium in a salt; `OS` is oxygen in a force field, never osmium. The
name of the residue and the other names in it decide. A message names the readings that may be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from phaseseg.display import Message, listed, option, plural
from phaseseg.frame import SITE, Category

_HIGHEST, _ALL = 94, 118  # elements heavier than plutonium are not guessed
_SITE = re.compile(r"(M|MW|LP[A-Z]?|EPW?|DUM?|VS|VIS|MC[A-Z]?|MN[A-Z])\d*")
_BEADS = {"W", "PW", "WF", "SOL"}
_SPECIAL = {
    "SOD": "Na", "POT": "K", "CLA": "Cl", "CAL": "Ca", "CES": "Cs", "RUB": "Rb", "LIT": "Li", "CAD": "Cd",
    "BAR": "Ba",
}  # fmt: skip
_IONS = {"ION", "IONS"}
_ORGANIC = set("CHNOPSF")
# Pairs of letters that are an element, or one of C, H, N, O, P, S at a position. In organic residues they are
# the latter; those of the first line everywhere, those of the second unless the residue has a metal.
_NEVER = {"HE", "HF", "HG", "HO", "NE", "NP", "OS", "PA", "PO"}
_WITH_METALS = {"CA", "CD", "CE", "NA", "NB", "ND", "PB"}
_WITHOUT_CARBON = {"CO", "CR", "CS", "PM", "PR", "SB", "SC", "SM", "SR"}
_DOUBTFUL = _NEVER | _WITH_METALS | _WITHOUT_CARBON
_STANDARD = """
    ALA ARG ASH ASN ASP CYM CYS CYX GLH GLN GLU GLY HID HIE HIP HIS HSD HSE HSP ILE LEU LYN LYS MET MSE PHE
    PRO SER THR TRP TYR VAL A C G U T DA DC DG DT DU RA RC RG RU
""".split()  # noqa: SIM905


class Guess(NamedTuple):
    """Element of an atom name, None for none. `other`: what it could also mean, "" if it is certain."""

    element: str | None
    other: str = ""


def elements_of(pairs: Sequence[tuple[str, str]]) -> list[Guess]:
    """The element of every pair of an atom name and a residue name ("" if unknown) of a file.

    >>> elements_of([("CA", "ALA"), ("CA", "CA"), ("OS", "MELT"), ("MW", "SOL"), ("Me1", "MET")])
    ... # doctest: +NORMALIZE_WHITESPACE
    [Guess(element='C', other=''), Guess(element='Ca', other=''), Guess(element='O', other='Os'),
     Guess(element='X', other='O'), Guess(element=None, other='')]
    """
    certain: dict[str, dict[str, str]] = {}
    for name, residue in pairs:
        one, two = _spellings(name)
        if not (one and two and two.upper() in _DOUBTFUL):
            certain.setdefault(residue, {})[name] = two or one
    return [_guess(name, residue, certain.get(residue, {})) for name, residue in pairs]


def _guess(name: str, residue: str, certain: Mapping[str, str]) -> Guess:
    """certain : elements of those names in the residue that leave no doubt"""
    capital, others = _letters(name).upper(), {one for other, one in certain.items() if other != name}
    organic = list(certain.values()).count("C") > 1 or residue.upper() in _STANDARD
    ion = capital == _letters(residue).upper() and not others
    ion = ion or residue.upper() in _IONS or bool(re.search(r"[+-]\d*$", name))
    if capital in _SPECIAL and (ion or (capital in ("SOD", "POT", "CLA") and not organic)):
        return Guess(_SPECIAL[capital], "" if ion else capital[0])
    if _SITE.fullmatch(name.upper()) or (capital == "W" and residue.upper() in _BEADS):
        return Guess(SITE, "O")
    one, two = _spellings(name)
    if not (one and two):
        return Guess(one or two or None)
    pair = capital[:2]
    if ion or pair not in _DOUBTFUL:
        return Guess(two)
    if pair in _WITHOUT_CARBON:
        return Guess(one, two) if organic else Guess(two, one)
    if organic:
        return Guess(one)
    return Guess(two, one) if pair in _WITH_METALS and others - _ORGANIC else Guess(one, two)


def _letters(name: str) -> str:
    return re.sub(r"[^A-Za-z].*", "", name.lstrip("0123456789"))


def _spellings(name: str) -> tuple[str, str]:
    """The element symbols that a name begins with, of one and of two letters; "" for none."""
    letters = _letters(name)
    one, two = letters[:1].upper(), letters[:2].capitalize()
    if letters[:2] == two in _symbols():  # written like a symbol: Ca, Os
        return "", two
    return one if one in _symbols() else "", two if len(letters) > 1 and two in _symbols() else ""


@cache
def _symbols(highest: int = _HIGHEST) -> frozenset[str]:
    from ase.data import chemical_symbols

    return frozenset(chemical_symbols[: highest + 1])


def species_of(
    name: Category,
    residue: Category | None = None,
    *,
    stated: Category | None = None,
    guessed: bool = False,
    names: Mapping[str, str] | None = None,
) -> tuple[Category, tuple[Message, ...]]:
    """Species from atom names, and the sentence on those that were guessed, if any.

    name, residue : words of every atom
    stated : element of every atom where the file states one; other words count as none
    guessed : whether `stated` may come from a program that looked at the letters of the atom name alone; then
        only an element that does not begin like the name counts
    names : what atom names or elements stand for, from the caller

    Raises
    ------
    ValueError
        For names without an element.
    """
    if not len(name.codes):
        return Category(name.codes, ()), ()
    names = names or {}
    residue = residue or Category(np.zeros_like(name.codes), ("",))
    stated = stated or Category(np.zeros_like(name.codes), ("",))
    sizes = len(name.names), len(residue.names), len(stated.names)
    kinds, of_atom, counts = np.unique(
        np.ravel_multi_index((name.codes, residue.codes, stated.codes), sizes),
        return_inverse=True, return_counts=True,
    )  # fmt: skip
    triples = [
        (name.names[i], residue.names[j], stated.names[k])
        for i, j, k in zip(*np.unravel_index(kinds, sizes), strict=True)
    ]
    guesses: dict[str, tuple[Guess, int]] = {}
    missing: list[str] = []
    species = []
    of_pair = dict(
        zip(pairs := list(dict.fromkeys(one[:2] for one in triples)), elements_of(pairs), strict=True)
    )
    for (atom, of_residue, symbol), n in zip(triples, counts.tolist(), strict=True):
        symbol, guess = symbol.capitalize(), of_pair[atom, of_residue]
        if atom in names:
            species.append(names[atom])
            continue
        if symbol in _symbols(_ALL) and symbol != SITE and not (guessed and _spelled(symbol, atom)):
            guess = Guess(symbol)
        if guess.element is None:
            missing.append(atom)
            continue
        if guess.other:
            earlier = guesses.get(atom, (guess, 0))[1]
            guesses[atom] = guess, earlier + n
        species.append(names.get(guess.element, guess.element))
    if missing:
        shown = list(dict.fromkeys(missing))
        # A methyl that is one particle weighs almost what carbon does.
        proposed = {name: "C" if name.upper().startswith("ME") else SITE for name in shown[:3]}
        raise ValueError(
            f"the atom name{'s' * (len(shown) > 1)} {', '.join(map(repr, shown[:8]))} "
            f"{'do' if len(shown) > 1 else 'does'} not begin with an element symbol. Name the elements (X "
            f"for a site without mass), as in {option('names', proposed)}."
        )
    kept = Category.of(species)
    return kept.take(of_atom.ravel()), (_guess_sentence(guesses),) if guesses else ()


def likely_elements(names: Sequence[str]) -> str:
    """The elements that names begin with, as in `OW=O,HW=H`; empty if one begins with none."""
    found = [one.element for one in elements_of([(name, "") for name in names])]
    return ",".join(f"{name}={one}" for name, one in zip(names, found, strict=True)) if all(found) else ""


def _spelled(symbol: str, name: str) -> bool:
    capital = _letters(name).upper()
    return symbol.upper() in (capital[:1], capital[:2], capital[1:2])


def _guess_sentence(guesses: Mapping[str, tuple[Guess, int]]) -> Message:
    """The sentence on what was guessed: the guess and the number of atoms, by name."""
    shown = listed([f"{name} as {one.element} ({plural(n, 'atom')})" for name, (one, n) in guesses.items()])
    sites = " X has no mass." if any(one.element == SITE for one, _ in guesses.values()) else ""
    name, (first, _) = next(iter(guesses.items()))
    remedy = option("names", {name: first.other})
    text = f"Elements were guessed from atom names: {shown}.{sites} Correct a wrong one with {remedy}."
    return Message(text, "guessed-elements")
