"""Mixtures of two kinds of particles, A and B: their codes, and compositions outside the training data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import listed
from phaseseg.frame import Frame
from phaseseg.nn.model import span_text

FRACTION_SLACK = 0.02
"""By which the share of B may be outside the range of the training data."""


def codes_of_mixture(
    frame: Frame, species: tuple[str, ...], b: str | tuple[str, ...] | None, who: str
) -> NDArray[np.int32]:
    """Return 0 for A and 1 for B, (n_atoms,).

    species : names of A and B in the training data
    b : names of the species B, all others are A; by default those of `species`
    who : the network, for messages

    Raises
    ------
    ValueError
        If `b` is left out and a particle is neither, or if one of the two kinds is missing.
    """
    where, names = frame.error_prefix, frame.species_names
    present = [names[code] for code in np.unique(frame.species)]
    if b is None:
        strange = [name for name in present if name not in species]
        if strange:
            raise ValueError(
                f"{where}{who} does not know {listed(strange)}, only {' and '.join(species)}. Name the "
                "species B with the option b; all others are then A."
            )
        b = species[1:]
    wanted = (b,) if isinstance(b, str) else tuple(b)
    is_b = np.array([name in wanted for name in names], dtype=bool)
    codes = np.asarray(is_b[frame.species], dtype=np.int32)
    if not codes.any() or codes.all():
        missing = f"no particle is {' or '.join(wanted)}" if not codes.any() else "every particle is B"
        raise ValueError(
            f"{where}{missing}; the species are {', '.join(present) or 'none'}, but {who} is for a mixture "
            "of A and B. Name the species B with the option b."
        )
    return codes


def fraction_outside(share: float, span: tuple[float, float]) -> list[str]:
    """Return a sentence part on a share of B outside the training data; empty if it is inside."""
    low, high = span
    if low - FRACTION_SLACK <= share <= high + FRACTION_SLACK:
        return []
    return [f"{share:.3g} of the particles are B, but {span_text(low, high)} in the training data"]
