"""Mutated parameters of every OVITO modifier, alone and in pairs, on small data."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np
from ovito.modifiers import DeleteSelectedModifier, ExpressionSelectionModifier, SliceModifier
from traits.api import TraitError

import ovito_phaseseg
from faces.ovito_data import collection, collection_of, pipeline_of
from fuzz.frames import warm
from fuzz.mutations import NUMBERS, WORDS
from fuzz.readers import FOLDER
from fuzz.report import Fault, sentence, sound
from mobility_samples import liquid, random_checkpoint
from phaseseg.checkpoint import load_checkpoint, save_checkpoint
from samples import disordered_mixture, drops, random_glass_checkpoint, share_checkpoint

NAMES = (
    "WeakPhaseLabels", "PhaseSegmentation", "RestorePhaseTypes", "GlassMetrics", "GlassClassifier",
    "Mobility", "EnvironmentClusters",
)  # fmt: skip
NOT_FINITE = {"Interface Distance"}
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 64, 65, -1, 10**6, 10**12, 0.0, 1e-9, 0.5, 3.0, 50.0, 1e9, 1e300, -1.0,
    float("nan"), float("inf"), "", "Fe", "O", "A", "B", "Fe,O", "B,A", " , ", "Phase", "Position",
    "temperature", [], (1,), {}, b"x",
)  # fmt: skip


@cache
def inputs() -> dict[str, Any]:
    folder = FOLDER.with_name(FOLDER.name + "-inputs")
    folder.mkdir(exist_ok=True)
    pair, glass, mobility = (folder / f"{name}-v1.safetensors" for name in ("pair", "glass", "mobility"))
    save_checkpoint(share_checkpoint("segmentation/pair-v1", species=("Fe", "O"), outputs=3), pair)
    save_checkpoint(random_glass_checkpoint(attention=True), glass)
    save_checkpoint(random_checkpoint(), mobility)
    (folder / "damaged.safetensors").write_bytes(pair.read_bytes()[:-5])
    files = {"PhaseSegmentation": str(pair), "GlassClassifier": str(glass), "Mobility": str(mobility)}
    files["EnvironmentClusters"] = str(folder / "environments-v1.safetensors")
    save_checkpoint(load_checkpoint("environments/mixture-v1"), files["EnvironmentClusters"])
    melt = collection(*drops(radii=(6.0,), cell=(16.0, 16.0, 16.0)))
    melt.particles_.create_property("phase", data=np.zeros(melt.particles.count, dtype=np.int32))
    return {
        "files": files, "melt": melt, "glass": collection_of(disordered_mixture(60)),
        "liquid": collection_of(liquid(64)),
        "paths": (*files.values(), str(folder / "damaged.safetensors"), str(folder), "/no/such", "gat-v1"),
    }  # fmt: skip


def _modifier(random: Random) -> tuple[str, Any]:
    name, known = random.choice(NAMES), inputs()
    modifier = getattr(ovito_phaseseg, name)()
    if name in known["files"]:
        modifier.model_file = known["files"][name]
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        trait = random.choice(modifier.parameters())
        values = getattr(modifier.trait(trait).handler, "values", None)
        kind = random.random()
        if values and kind < 0.6:
            value = random.choice(list(values))
        elif trait == "model_file":
            value = random.choice(known["paths"])
        elif kind < 0.8:
            value = random.choice(ODD)
        else:
            value = random.choice(WORDS + NUMBERS)
        try:
            setattr(modifier, trait, value)
        except TraitError:
            continue
    return name, modifier


__all__ = ["run", "warm"]


def run(kind: str, random: Random) -> str:
    """Evaluate one pipeline; return what became of it."""
    known = inputs()
    chosen = [_modifier(random) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    first = chosen[0][0]
    data = known["glass" if "Glass" in first else "liquid" if first == "Mobility" else "melt"].clone()
    for _ in range(random.choice((0, 0, 1))):
        name = random.choice(("Time", "Timestep", "SourceFrame", "SourceFile", "temperature"))
        data.attributes[name] = random.choice(("2024-01-01", 1.5, 7, float("nan"), [1], np.arange(2), True))
    steps: list[Any] = []
    for _, modifier in chosen:
        steps.append(modifier)
        if random.random() < 0.15:
            steps.append(SliceModifier(distance=random.choice((-100.0, 0.0, 5.0, 8.0))))
        if random.random() < 0.1:
            steps += [ExpressionSelectionModifier(expression="Phase==1"), DeleteSelectedModifier()]
    try:
        found = pipeline_of(data, *steps).compute()
    except (ValueError, RuntimeError, TypeError) as error:
        if isinstance(error, TypeError):
            raise
        sentence(error)
        headings = [getattr(modifier, "heading", "Restore phase types") for _, modifier in chosen]
        if not str(error).startswith(tuple(headings)) and "Expression" not in str(error):
            raise Fault(f"no modifier is named: {error}") from error
        return "refused"
    for title in found.particles:
        values = found.particles[title]
        array = np.asarray(values[...]) if not isinstance(values[...], list) else np.zeros(len(values))
        sound(title, array, found.particles.count, nan=any(title.startswith(name) for name in NOT_FINITE))
    for kept in ("Position", "Particle Type"):
        if kept not in found.particles:
            raise Fault(f"{kept} is lost")
    for name in found.grids:
        for column in found.grids[name]:
            sound(f"{name}.{column}", found.grids[name][column][...])
    return "computed"
