"""A legend in the viewport: the classes of the atoms, their share, their composition, and the verdict."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import numpy as np
from ovito.vis import ViewportOverlayInterface
from traits.api import Bool, Enum, Range, Str

from phaseseg.families import FAMILIES
from phaseseg.specs import FIELD_SPECS

# Species below this content are left out of the composition of a class.
LEAST_CONTENT, MOST_SPECIES = 1.0, 3
MARGIN, SWATCH = 0.02, "\N{BLACK CIRCLE}"


class PhaseLegend(ViewportOverlayInterface):
    """Name, color and share of each class of a typed particle property, with what is known of the phases.

    The classes are those of `particle_property`, or of the first property of this package that the particles
    have: phases, states, mobile particles, environments. The share is that of the particles. If the pipeline
    has the table of compositions, the main species of each phase follow, and the first sentence of the
    analysis stands above.
    """

    corner = Enum("bottom left", "bottom right", "top left", "top right", label="Corner")
    font_size = Range(0.005, 0.2, 0.028, label="Font size (share of the height)")
    show_verdict = Bool(True, label="Verdict")
    show_composition = Bool(True, label="Composition of phases")
    particle_property = Str("", label="Property (empty: the first one)")

    def render(self, canvas: Any, data: Any, **kwargs: Any) -> None:
        """Draw the lines into a corner; nothing if no property has classes."""
        lines = list(self.lines(data))
        top, left = self.corner.startswith("top"), self.corner.endswith("left")
        anchor = f"{'north' if top else 'south'} {'west' if left else 'east'}"
        x = MARGIN if left else 1 - MARGIN
        step = 1.35 * self.font_size
        for k, text in enumerate(lines if top else reversed(lines)):
            y = 1 - MARGIN - k * step if top else MARGIN + k * step
            canvas.draw_text(text, (x, y), font_size=self.font_size, anchor=anchor, outline_width=1.5)

    def lines(self, data: Any) -> Iterator[str]:
        """Yield the lines of the legend from top to bottom, with HTML for colors."""
        name = self._property(data)
        if name is None:
            return
        if self.show_verdict and (verdict := _verdict(data)):
            yield html.escape(verdict)
        values = np.asarray(data.particles[name][...])
        contents = _contents(data) if self.show_composition else {}
        for one in data.particles[name].types:
            share = np.count_nonzero(values == one.id) / max(len(values), 1)
            color = "#" + "".join(f"{round(255 * float(part)):02x}" for part in one.color)
            main = f" ({contents[one.name]})" if one.name in contents else ""
            text = html.escape(f"{one.name} {share:.1%}{main}")
            yield f'<span style="color:{color}">{SWATCH}</span> {text}'

    def _property(self, data: Any) -> str | None:
        """Return the property whose classes are shown; KeyError for a named one that has none."""
        if data.particles is None:
            return None
        if wanted := self.particle_property:
            if wanted not in data.particles or not len(data.particles[wanted].types):
                raise KeyError(f"the particles have no property {wanted!r} with classes; choose another one.")
            return str(wanted)
        list(FAMILIES)  # they register their fields
        titles = [
            spec.title for spec in FIELD_SPECS.values() if spec.level == "atom" and spec.kind == "class"
        ]
        return next((t for t in titles if t in data.particles and len(data.particles[t].types)), None)


def _verdict(data: Any) -> str:
    """Return the first sentence of the analysis, up to its reason."""
    for name, text in data.attributes.items():
        if name.endswith(".messages") and isinstance(text, str) and text:
            return text.partition(". ")[0].partition(": ")[0].removesuffix(".")
    return ""


def _contents(data: Any) -> dict[str, str]:
    """Return the main species of each phase, `Fe 88.7, O 6.2 wt%`, from the table of compositions."""
    table = data.tables.get("phase-composition")
    if table is None or table.x is None or not len(table.x.types):
        return {}
    title = next((name for name in table if name.startswith("Content (")), None)
    if title is None:
        return {}
    unit = title.partition("(")[2].removesuffix(")")
    found = {}
    for code, row in zip(np.asarray(table.x[...]).tolist(), np.asarray(table[title][...]), strict=True):
        phase = next((one.name for one in table.x.types if one.id == code), None)
        pairs = sorted(zip(row.tolist(), table[title].component_names, strict=True), reverse=True)
        main = [f"{species} {value:.1f}" for value, species in pairs if value >= LEAST_CONTENT]
        if phase is not None and main:
            found[phase] = f"{', '.join(main[:MOST_SPECIES])} {unit}"
    return found
