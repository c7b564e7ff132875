"""The table that `phaseseg predict` prints and writes for the frames of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from phaseseg.families.liquid_glass.rules import GlassRule
from phaseseg.fields import Fields
from phaseseg.summary import FrameSummary


class GlassSummary(FrameSummary):
    """One row per frame with its state, "glass" or "liquid", by the threshold of the rule."""

    headings: ClassVar[Mapping[str, str]] = {
        "frame": "frame", "temperature": "T", "state": "state", "frame_glass_probability": "p(glass)",
        "frame_glass_uncertainty": "±", "glass_fraction": "glassy particles",
        "attention_n_disjoint_graphs": "attention graphs", "attention_n_bb_edges": "B–B edges",
        "attention_n_isolated_a": "isolated A",
    }  # fmt: skip
    in_row: ClassVar[frozenset[str]] = frozenset({"verdict"})

    def __init__(self, rule: GlassRule, source: str = "") -> None:
        super().__init__(rule, source)
        self.title = f"Liquid or glass by {rule.model}"

    def row(self, fields: Fields) -> dict[str, Any]:
        """The state."""
        glass = fields["frame_glass_probability"] >= self.rule.threshold
        return {"state": "glass" if glass else "liquid"}

    def style(self, row: Mapping[str, Any]) -> str | None:
        """Blue for glasses, orange for liquids."""
        return {"glass": "steel_blue", "liquid": "dark_orange3"}.get(row["state"])
