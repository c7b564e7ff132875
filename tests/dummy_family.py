"""A family of models in one file, as a stranger would write it: the contract is all that it knows.

Its network has two weights: the crowding of an atom is `slope` times the number of its neighbors within a
cutoff, plus `offset`. With it come two options, settings, a foreign checkpoint format, a word of the command
line, work that reports its progress and can be interrupted, slabs, and a fit over all frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer

from phaseseg.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from phaseseg.families import Family, Option, register
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame
from phaseseg.io import read_frames
from phaseseg.neighbors import neighbor_graph
from phaseseg.nn.model import NetworkModel, member_weights
from phaseseg.report import TextTable
from phaseseg.specs import FieldSpec
from phaseseg.training.settings import Settings, setting
from phaseseg.trajectory import over_runs


@dataclass(frozen=True)
class CrowdingSettings:
    cutoff: float = setting(3.0, help="Radius of the neighborhood, Å.")
    slope: float = setting(1.0, help="Weight of a neighbor.")
    epochs: int = setting(2, help="Epochs, at most.")
    center: bool = setting(False, help="Whether the mean over all frames is taken away.")

    def __post_init__(self) -> None:
        if not self.cutoff > 0:
            raise ValueError(f"cutoff must be a positive length in Å, found {self.cutoff}.")

    def fit_options(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class CrowdingRule:
    model: str = ""
    weight: float = 1.0
    limit: float = 5.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be positive, found {self.weight}.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class CrowdingModel(NetworkModel):
    family = "crowding"
    rule_type = CrowdingRule

    def _read(self, checkpoint: Checkpoint) -> None:
        self.cutoff = float(checkpoint.config["cutoff"])

    def _make(self, kind: str) -> Any:
        slopes, offsets = (np.array([m[name] for m in self.members]) for name in ("slope", "offset"))
        return lambda counts: (slopes * counts + offsets).mean(axis=0).astype(np.float32)

    @property
    def halo(self) -> float:
        return self.cutoff

    def run(self, frame: Frame, rule: Any = None, *, device: Any = "auto", progress: Any = None) -> Any:
        self.check_frame(frame)
        rule = self.rule() if rule is None else rule
        counts = np.diff(neighbor_graph(frame, cutoff=self.cutoff).indptr)
        out = np.empty(frame.n_atoms, dtype=np.float32)
        for first in range(0, frame.n_atoms, 100):  # long work, in steps
            part = slice(first, first + 100)
            out[part] = rule.weight * self.network(device)(counts[part])
            if progress is not None:
                progress(min(first + 100, frame.n_atoms) / frame.n_atoms, f"atom {first + 1:,}")
        return out

    def fields(self, frame: Frame, output: Any, rule: Any = None, **options: Any) -> Fields:
        rule = self.rule(**options) if rule is None else rule
        n = int((output > rule.limit).sum())
        message = Message(f"{n} of {frame.n_atoms} atoms are crowded.", "crowded")
        return Fields({"crowding": output, "n_crowded": n, "mean_crowding": float(output.mean())}, [message])

    def merge(self, frame: Frame, parts: Any) -> Any:
        out = np.empty(frame.n_atoms, dtype=np.float32)
        for part in parts:
            out[part.atoms[part.own]] = part.output[part.own]
        return out


class CenteredModel(CrowdingModel):
    """Learns the mean over all frames first."""

    family = "centered"
    fitted, mean = False, 0.0

    def fit_frames(self, frames: Iterable[Frame], rule: Any, *, progress: Any = None) -> CenteredModel:
        fitted = CenteredModel(self.checkpoint)
        fitted.fitted, fitted.mean = (
            True,
            float(np.mean([super(CenteredModel, self).run(f, rule).mean() for f in frames])),
        )
        return fitted

    def run(self, frame: Frame, rule: Any = None, *, device: Any = "auto", progress: Any = None) -> Any:
        return super().run(frame, rule, device=device, progress=progress) - np.float32(self.mean)


def checkpoint_of(name: str, cutoff: float = 3.0, slope: float = 1.0) -> Checkpoint:
    weights = [{"slope": np.float32([slope]), "offset": np.float32([offset])} for offset in (-0.5, 0.5)]
    return Checkpoint(name.split("/")[0], name, {"cutoff": cutoff}, member_weights(weights))


def fit_crowding(data: Any, *, output: Any = None, progress: Any = None, **options: Any) -> Checkpoint:
    """Data are files or frames; the network is known before."""
    settings = CrowdingSettings(**{k: v for k, v in options.items() if k in asdict(CrowdingSettings())})
    Settings(settings.epochs, 100, 1e-3, (0,), 1)
    frames = [frame for run in data for frame in (read_frames(run) if isinstance(run, Path) else [run])]
    if not frames:
        raise ValueError("there are no frames to learn from.")
    found = checkpoint_of("crowding/mine-v1", settings.cutoff, settings.slope)
    if output is not None:
        save_checkpoint(found, output)
    if progress is not None:
        progress(1.0, "done")
    return found


@dataclass
class CrowdingEvaluation:
    rows: list[dict[str, Any]]
    messages: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def tables(self) -> dict[str, Table]:
        return {"frames": Table("Crowding", {k: np.array([r[k] for r in self.rows]) for k in self.rows[0]})}

    def to_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def shown(self, name: str) -> list[TextTable | str]:
        cells = tuple((row["run"], f"{row['error']:.3f}") for row in self.rows)
        return [TextTable(f"Crowding of {name}", ("run", "error"), cells)]

    def write(self, folder: Path, about: Any) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(self.to_dict()), "utf-8")
        return folder / "metrics.json"


def evaluate(
    runs: Any, model: Any, *, device: str = "auto", expected: float = 0.0, mapped: Any = over_runs
) -> CrowdingEvaluation:
    found = mapped(partial(mean_crowding, model, device), runs)
    return CrowdingEvaluation([{"run": run, "error": abs(mean - expected)} for run, _, mean in found])


def mean_crowding(model: Any, device: str, frame: Frame) -> float:
    return model.predict(frame, device=device)["mean_crowding"]


def read_crowd(path: Path) -> Checkpoint | None:
    """`{"slope": 2.0, "cutoff": 3.0}` in a file `.crowd`, as another program writes it."""
    if path.suffix != ".crowd":
        return None
    content = json.loads(path.read_text("utf-8"))
    return checkpoint_of(f"crowding/{path.stem}", content["cutoff"], content["slope"])


def crowd_command(path: Path) -> None:
    """Print what a crowding checkpoint holds."""
    typer.echo(f"cutoff {load_checkpoint(path).config['cutoff']:g}")


FIELDS = (
    FieldSpec("crowding", "Crowding", "", "atom", "scalar", "weighted number of neighbors"),
    FieldSpec("n_crowded", "Number of crowded atoms", "", "frame", "count", "atoms above the limit"),
    FieldSpec("mean_crowding", "Mean crowding", "", "frame", "scalar", "mean over the atoms"),
)
OPTIONS = (
    Option("weight", float, 1.0, "Weight of a neighbor.", part="run", low=0, open=True,
           label="Weight", group="Crowding"),
    Option("limit", float, 5.0, "Crowding above which an atom is crowded.", label="Limit", group="Crowding"),
    Option("expected", float, 0.0, "Mean crowding to compare with.", part="evaluate"),
)  # fmt: skip
COMMON: dict[str, Any] = {
    "status": "experimental", "units": ("metal",), "fields": FIELDS, "options": OPTIONS,
    "symmetries": frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"}),
}  # fmt: skip
CROWDING = Family(
    name="crowding", title="Crowding", model="dummy_family:CrowdingModel", settings=CrowdingSettings,
    fit="dummy_family:fit_crowding", evaluate="dummy_family:evaluate", readers=("dummy_family:read_crowd",),
    commands=("crowd=dummy_family:crowd_command",), **COMMON,
)  # fmt: skip
CENTERED = Family(name="centered", title="Centered crowding", model="dummy_family:CenteredModel", **COMMON)


def register_all() -> None:
    register(CROWDING)
    register(CENTERED)
