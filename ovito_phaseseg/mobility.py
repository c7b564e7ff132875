"""The modifier that predicts the mobility of particles in a glass former."""

from __future__ import annotations

import numpy as np

from ovito_phaseseg import convert
from ovito_phaseseg.base import Evaluation, NetworkModifier
from phaseseg.families import Option
from phaseseg.specs import FLAG_COLORS

COLORED = {
    "propensity": "propensity", "uncertainty": "propensity_uncertainty",
    "displacement": "inherent_displacement", "cage": "cage_variance",
}  # fmt: skip
COLOR_BY = Option(
    "color_by", str, "propensity",
    "Percentile of a quantity among the particles of the same type, from dark blue to yellow; or the mobile "
    "particles (red).",
    choices=("nothing", "propensity", "mobile", "uncertainty", "displacement", "cage"),
    label="Color particles by", group="Output",
)  # fmt: skip


class Mobility(NetworkModifier, family="mobility", options=(COLOR_BY,)):
    """Predict from the structure of a glass former how far every particle will move.

    Outputs are the particle properties `Propensity` (σ), `Propensity Uncertainty`, `Mobile` (1 for the most
    mobile particles of each type), `Inherent Displacement` and, if the network needs cages, `Cage Variance`;
    the tables `mobility-histogram` and `mobility-correlation`; and the attributes `Mobility.*`. Minimization
    and cage runs are part of it and can be canceled. Their result is cached until a parameter of the part
    "run" changes.
    """

    tables = ""  # the names of the fields begin with "mobility"

    def color(self, now: Evaluation) -> None:
        """Color the particles by percentile within their type; those without a value are gray."""
        from phaseseg.families.mobility.scores import percentiles

        name = COLORED.get(self.color_by, "")
        if self.color_by == "mobile":
            convert.put_colors(now.data, now.fields["mobile"].astype(np.int64), FLAG_COLORS)
        elif name in now.fields:
            convert.put_shades(now.data, percentiles(now.fields[name], now.frame.species) / 100)
