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
MOST_CLASSES = 10
"""Of more classes, the largest ones of the frame are shown."""
LONGEST_ANSWER = 25
MARGIN, SWATCH = 0.02, "\N{BLACK CIRCLE}"


class PhaseLegend(ViewportOverlayInterface):
    """Name, color and share of each class of a typed particle property, with what is known of the phases.

    The classes are those of `particle_property`, or of the first property of this package that the particles
    have: phases or environments. Of mobile and isolated particles, the share is shown. The main species of
    each phase follow if the pipeline has the table of compositions.

    Parameters
    ----------
    corner : "bottom left", "bottom right", "top left" or "top right", default 'bottom left'
        Corner of the picture.
    font_size : float, default 0.028
        Height of the letters, as a share of the height of the picture.
    show_verdict : bool, default True
        Put the first sentence of the analysis above, such as *Two phases*.
    show_composition : bool, default True
        Add the main species of each phase.
    particle_property : str, default ''
        Particle property with the classes; if empty, the first one that this package writes.
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
        types = list(data.particles[name].types)
        if not types:
            yield html.escape(f"{name} {np.count_nonzero(values) / max(len(values), 1):.1%}")
        contents = _contents(data) if self.show_composition else {}
        counts = {one.id: np.count_nonzero(values == one.id) for one in types}
        if len(types) > MOST_CLASSES:
            largest = sorted(counts, key=lambda code: (-counts[code], code))[:MOST_CLASSES]
            types = [one for one in types if one.id in largest and counts[one.id]]
        for one in types:
            share = counts[one.id] / max(len(values), 1)
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
        specs = [
            spec for spec in FIELD_SPECS.values() if spec.level == "atom" and spec.title in data.particles
        ]
        for kind in ("class", "count", "flag"):
            for spec in specs:
                if spec.kind == kind and (kind == "flag" or len(data.particles[spec.title].types)):
                    return spec.title
        return None


def _verdict(data: Any) -> str:
    """Return the first sentence of the analysis; of "Two phases: ..." only the answer."""
    for name, text in data.attributes.items():
        if name.endswith(".messages") and isinstance(text, str) and text:
            sentence = text.splitlines()[0].partition(". ")[0].removesuffix(".")
            answer = sentence.partition(": ")[0]
            return answer if len(answer) <= LONGEST_ANSWER else sentence
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
