"""The content of a viewer page: atoms, columns, bonds and meshes of frames as compressed arrays."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.display import listed, number, plural
from phaseseg.fields import Bonds, Fields, Grid, Table
from phaseseg.frame import Frame, length_unit
from phaseseg.io.pieces import PiecedFrame, taken
from phaseseg.specs import FIELD_SPECS, SCALAR_MAP, UNKNOWN, Progress
from phaseseg.statistics import percentiles
from phaseseg.viewer.columns import LARGEST, MOST_CLASSES, Column, Legend, columns_of
from phaseseg.viewer.species import Ball, ball_of
from phaseseg.viewer.surface import surface_mesh

MOST_ATOMS = 1_500_000
"""Atoms of a frame in the page; of larger ones a random choice is shown."""
MOST_VALUES = 5_000_000
"""Values of the columns of a frame; further columns are left out."""
MOST_BONDS = 300_000
MOST_BYTES = 60_000_000
"""Compressed size of all frames; of longer trajectories every second, fourth, ... frame is shown."""
IN_REPORT = 12_000_000
"""The same in a report, which has other things to show."""
SPECIES = "species"


@dataclass(frozen=True)
class Packed:
    """One frame: its description, and its arrays as one compressed block in base64.

    about : for JSON
    data : the arrays listed in `about["arrays"]`, each sorted by the places of the bytes in its values
    """

    about: dict[str, Any]
    data: str


class Arrays:
    """Arrays that are packed together."""

    def __init__(self) -> None:
        self.listed: list[list[Any]] = []
        self._parts: list[bytes] = []

    def add(self, name: str, values: NDArray[Any], kind: str, *, differences: bool = False) -> None:
        """Add an array as "u1", "u2", "u4", "i4" or "f4"; differences of neighbors may compress better."""
        flat = np.ascontiguousarray(values.ravel(), dtype=f"<{kind}")
        if differences:
            flat = np.diff(flat, prepend=flat.dtype.type(0))
        self.listed.append([name, kind, flat.size, int(differences)])
        self._parts.append(flat.view(np.uint8).reshape(-1, flat.itemsize).T.tobytes())

    def packed(self) -> str:
        return base64.b64encode(zlib.compress(b"".join(self._parts), 6)).decode()


class Scene:
    """Collects frames for a page, one at a time, within a limit of memory.

    Parameters
    ----------
    color : name of the column that colors the atoms, or "species"; None for the first field with classes,
        the first field, or the species
    species : those shown at first; all if empty
    interface : whether to draw the surface that the specification of a grid names; None if there is one
    most_bytes : of all frames
    """

    def __init__(
        self,
        *,
        color: str | None = None,
        species: Sequence[str] = (),
        interface: bool | None = False,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.color, self.shown, self.interface = color, tuple(species), interface
        self.frames: list[Packed] = []
        self.legends: dict[str, Legend] = {}
        self.balls: dict[str, Ball] = {}
        self.notes: dict[str, None] = {}
        self.n_frames = 0
        self.n_dimensions = 3
        self.units = "metal"
        self.source = ""
        self.first: tuple[Frame, dict[str, NDArray[Any]]] | None = None
        self.step = 1
        self.most_bytes = most_bytes
        self._kept: tuple[str, ...] | None = None

    def add_pieces(self, found: PiecedFrame, progress: Progress | None = None) -> Frame:
        """Add a frame that does not fit into memory; return the atoms that are shown."""
        frame = taken(found, _chosen(found.n_atoms), progress)
        self.add(frame, n_atoms=found.n_atoms)
        return frame

    def add(
        self, frame: Frame, fields: Mapping[str, Any] | None = None, *, n_atoms: int | None = None
    ) -> None:
        """Add a frame with its fields; a frame without atoms is left out, and so are some of very many.

        n_atoms : of the whole frame, if only some of them are given

        Raises
        ------
        ValueError
            For a color, a species or an interface that the frame does not have.
        """
        self.n_frames += 1
        if not len(frame):
            self.notes["Frames without atoms are left out."] = None
            return
        if (self.n_frames - 1) % self.step:
            return
        self.frames.append(self._packed(frame, fields if fields is not None else {}, n_atoms or len(frame)))
        while sum(len(one.data) for one in self.frames) > self.most_bytes and len(self.frames) > 1:
            self.frames, self.step = self.frames[::2], 2 * self.step

    def _packed(self, whole: Frame, fields: Mapping[str, Any], n_atoms: int) -> Packed:
        rows = _rows(whole)
        if len(rows) < n_atoms:
            self.notes[
                f"Of {n_atoms:,} atoms, {len(rows):,} are shown, chosen at random; the others are not in "
                "this page."
            ] = None
        columns = _rows_of({**whole.fields, **fields}, rows, len(whole))
        columns = {name: columns[name] for name in (*fields, *whole.fields) if name in columns}
        frame = whole.replace(fields={}, categories={}).take(rows)
        arrays = Arrays()
        positions = _in_cell(frame)
        middle = frame.origin + frame.cell.sum(axis=0) / 2
        if not frame.pbc.all() and len(frame):
            # Atoms may lie far outside of a cell along open axes.
            low, high = positions.min(axis=0), positions.max(axis=0)
            middle = np.where(frame.pbc, middle, (low + high) / 2) if _straight(frame) else (low + high) / 2
        about: dict[str, Any] = {
            "n": len(rows), "label": _label(frame, self.n_frames - 1), "pbc": frame.pbc.tolist(),
            "cell": frame.cell.ravel().tolist(), "origin": (frame.origin - middle).tolist(),
            "corner": frame.origin.tolist(),
        }  # fmt: skip
        about["scale"] = _add_points(arrays, "positions", positions - middle)
        self._add_species(arrays, frame)
        ids = frame.ids if frame.ids is not None else rows + 1
        arrays.add("ids", ids & 0xFFFFFFFF, "u4", differences=True)
        if ids.min() < 0 or ids.max() >= 1 << 32:
            arrays.add("high ids", ids >> 32, "i4", differences=True)
        about["columns"] = self._add_columns(arrays, frame, columns, set(fields))
        about["bonds"] = self._add_bonds(arrays, whole, fields, rows)
        about["mesh"] = self._add_mesh(arrays, whole, fields, middle) if self.interface is not False else None
        about["numbers"] = _numbers(fields)
        about["messages"] = [str(one) for one in getattr(fields, "messages", frame.messages)]
        about["arrays"] = arrays.listed
        if self.first is None:
            self.n_dimensions, self.units = frame.n_dimensions, frame.units
            self.source = frame.source.partition(", frame ")[0]
            self.first = frame.replace(positions=positions - middle, origin=frame.origin - middle), self._seen
        return Packed(about, arrays.packed())

    def _add_species(self, arrays: Arrays, frame: Frame) -> None:
        for name in frame.species_names:
            if name not in self.balls:
                self.balls[name] = ball_of(name, frame)
        numbers = list(self.balls)
        if unknown := [name for name in self.shown if name not in numbers]:
            raise ValueError(
                f"{frame.error_prefix}no atom is of species {', '.join(unknown)}; the species here are "
                f"{', '.join(frame.species_names)}."
            )
        table = np.array([min(numbers.index(name), 255) for name in frame.species_names], dtype=np.int64)
        arrays.add("species", table[frame.species], "u1")

    def _add_columns(
        self, arrays: Arrays, frame: Frame, given: Mapping[str, Any], own: Collection[str]
    ) -> dict[str, list[float]]:
        """Add the columns; return offset and step of the scalars by name.

        own : names of those that are results
        """
        columns = {column.name: column for column in columns_of(given, len(frame))}
        if self._kept is None:
            self.color = self._chosen(frame, columns, own)
            self._kept = self._fitting(columns, len(frame))
        scales: dict[str, list[float]] = {}
        self._seen: dict[str, NDArray[Any]] = {}
        for k, name in enumerate(self._kept):
            if name not in columns:
                continue
            legend = self.legends.setdefault(name, Legend.of(columns[name]))
            values = legend.numbers(columns[name])
            self._seen[name] = values
            if legend.kind == "class":
                small = values.size and values.min() >= -1 and values.max() < 255
                arrays.add(f"c{k}", values + 1 if small else values, "u1" if small else "i4")
                scales[name] = [-1 if small else 0, 1]
                continue
            scales[name] = _add_scalars(arrays, f"c{k}", values)
        return scales

    def _chosen(self, frame: Frame, columns: Mapping[str, Column], own: Collection[str]) -> str:
        """The name of the column that colors the atoms."""
        if self.color is None:
            named = (name for name, one in columns.items() if one.spec or name.partition(".")[0] in own)
            return next(named, SPECIES)
        names = {SPECIES: SPECIES, **{name.lower(): name for name in columns}}
        names |= {name.partition(".")[0].lower(): name for name in reversed(list(columns)) if "." in name}
        if self.color.lower() not in names:
            there = listed([SPECIES, *columns], 30)
            raise ValueError(f"{frame.error_prefix}no field {self.color!r} to color by; choose from {there}.")
        return names[self.color.lower()]

    def _fitting(self, columns: Mapping[str, Column], n_atoms: int) -> tuple[str, ...]:
        """Names of the columns that have room, the one that colors the atoms before all."""
        order = sorted(columns, key=lambda name: name != self.color)
        most = max(MOST_VALUES // max(n_atoms, 1), 1)
        if len(order) > most:
            left_out = [columns[name].title for name in order[most:]]
            self.notes[f"Left out to keep the page small: {listed(left_out)}."] = None
        return tuple(order[:most])

    def _add_bonds(
        self, arrays: Arrays, frame: Frame, fields: Mapping[str, Any], rows: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for name, bonds in fields.items():
            if not isinstance(bonds, Bonds) or not len(bonds):
                continue
            if len(bonds) > MOST_BONDS or len(rows) < len(frame):
                title = FIELD_SPECS[name].title.lower()
                self.notes[f"{plural(len(bonds), 'bond')} ({title}) are left out: they are too many."] = None
                continue
            place = np.empty(len(frame), np.int64)
            place[rows] = np.arange(len(rows))
            i, j = bonds.atoms.T
            vectors = frame.positions[j] - frame.positions[i] + bonds.shifts @ frame.cell
            key = f"b{len(made)}"
            arrays.add(f"{key}i", place[i], "u4", differences=True)
            arrays.add(f"{key}j", place[j], "u4")
            about = {"title": FIELD_SPECS[name].title, "scale": _add_points(arrays, key, vectors)}
            flags = [
                column for column, values in bonds.columns.items()
                if np.asarray(values).dtype.kind in "biu" and set(np.unique(values).tolist()) <= {0, 1}
            ]  # fmt: skip
            for n, column in enumerate(flags):
                arrays.add(f"{key}f{n}", np.asarray(bonds.columns[column]), "u1")
            made.append({**about, "key": key, "flags": flags, "shown": FIELD_SPECS[name].shown or "all"})
        return made

    def _add_mesh(
        self, arrays: Arrays, frame: Frame, fields: Mapping[str, Any], middle: NDArray[np.float64]
    ) -> dict[str, Any] | None:
        declared = [FIELD_SPECS[name].surface for name in fields if name in FIELD_SPECS]
        made = (_loaded(reference)(frame, fields) for reference in declared if reference)
        found = next((one for one in made if one is not None), None)
        if found is None and self.interface:
            self.notes[
                "Some frames have no interface." if self.n_frames > 1 else "The model finds no interface."
            ] = None
        if found is None:
            return None
        grid, level = found
        mesh = surface_mesh(grid, level)
        if not len(mesh.quads):
            return None
        scale = _add_points(arrays, "mesh", mesh.vertices - middle)
        arrays.add("quads", mesh.quads, "u4", differences=True)
        # The mesh overlaps the ends of periodic axes and is cut there.
        return {
            "scale": scale, "cell": grid.cell.ravel().tolist(), "origin": (grid.origin - middle).tolist(),
            "pbc": grid.pbc.tolist(),
        }  # fmt: skip

    # -------------------------------------------------------------------------------------- page

    def described(self, title: str) -> dict[str, Any]:
        """What the page must know besides the arrays, for JSON."""
        if not self.n_frames:
            raise ValueError(
                f"{title + ': ' if title else ''}there is no frame to show; choose other frames."
            )
        if not self.frames:
            raise ValueError(f"{title + ': ' if title else ''}there are no atoms to show.")
        notes = list(self.notes)
        if self.step > 1:
            notes.append(
                f"Of {self.n_frames:,} frames, every {self.step}th is shown, to keep the page small."
            )
        return {
            "title": title or self.source, "dimensions": self.n_dimensions,
            "length": length_unit(self.units), "color": self.color, "notes": notes,
            "turn": self.turn.ravel().tolist(),
            "species": [
                {"name": name, "radius": ball.radius, "color": _hex(ball.color),
                 "shown": not self.shown or name in self.shown}
                for name, ball in self.balls.items()
            ],
            "columns": [self._legend(name) for name in self._kept or () if name in self.legends],
            "maps": color_maps(), "frames": [one.about for one in self.frames],
        }  # fmt: skip

    def _legend(self, name: str) -> dict[str, Any]:
        legend = self.legends[name]
        about: dict[str, Any] = {
            "name": name, "title": legend.title, "unit": legend.unit, "kind": legend.kind,
            "description": legend.spec.description if legend.spec else "",
            "map": SCALAR_MAP,
            "ranked": legend.spec is not None and legend.spec.by_species,
        }  # fmt: skip
        about["low"], about["high"] = legend.limits
        if legend.kind == "class":
            classes = legend.classes
            if len(classes) > MOST_CLASSES:  # too many colors to tell apart
                ids = [entry.id for entry in classes]
                about |= {"kind": "scalar", "low": min(ids), "high": max(ids)}
            else:
                about["classes"] = [
                    {"id": entry.id, "name": entry.name, "color": _hex(entry.color)} for entry in classes
                ]
        return about

    @property
    def turn(self) -> NDArray[np.float64]:
        """(3, 3): directions to the right, up and toward the viewer, as rows, at first."""
        assert self.first is not None
        frame = self.first[0]
        if self.n_dimensions == 2:
            right = frame.cell[0] / np.linalg.norm(frame.cell[0])
            toward = np.cross(frame.cell[0], frame.cell[1])
            toward /= np.linalg.norm(toward)
            return np.stack([right, np.cross(toward, right), toward])
        azimuth, height = np.radians(-62.0), np.radians(20.0)
        toward = np.array(
            [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
        )
        right = np.cross([0, 0, 1.0], toward)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(toward, right), toward])

    def still(self) -> str:
        """Address of a picture of the first frame as the page shows it first."""
        from phaseseg.viewer.still import data_url, spheres

        assert self.first is not None
        frame, values = self.first
        visible = np.isin(frame.species, [frame.species_names.index(name) for name in self.shown])
        rows = np.flatnonzero(visible if self.shown else visible | True)
        radii = np.array([self.balls[name].radius for name in frame.species_names])[frame.species[rows]]
        colors = self._colors(frame, values)[rows]
        return data_url(spheres(frame.positions[rows], radii, colors, self.turn))

    def _colors(self, frame: Frame, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        name = self.color or SPECIES
        if name == SPECIES:
            return np.array([self.balls[one].color for one in frame.species_names])[frame.species]
        about = self._legend(name)
        if about["kind"] == "class":
            table = {
                one["id"]: [int(one["color"][k : k + 2], 16) for k in (1, 3, 5)] for one in about["classes"]
            }
            ids, codes = np.unique(values[name], return_inverse=True)
            return np.array([table[number] for number in ids.tolist()])[codes.ravel()] / 255
        stops = np.array(color_maps()[about["map"]]) / 255
        with np.errstate(over="ignore", invalid="ignore"):
            if about["ranked"]:
                share = percentiles(values[name], frame.species) / 100
            else:
                share = (values[name] - about["low"]) / (about["high"] - about["low"])
        place = np.nan_to_num(np.clip(share, 0, 1), nan=0) * (len(stops) - 1)
        mixed = np.stack([np.interp(place, np.arange(len(stops)), part) for part in stops.T], axis=1)
        return np.where(np.isfinite(share)[:, None], mixed, UNKNOWN)


# ----------------------------------------------------------------------------------------- arrays


def _rows(frame: Frame) -> NDArray[np.int64]:
    """The atoms to show, sorted by their ids, which then compress to nothing."""
    rows = _chosen(len(frame))
    return rows if frame.ids is None else rows[np.argsort(frame.ids[rows], kind="stable")]


def _chosen(n_atoms: int) -> NDArray[np.int64]:
    """The rows to show, sorted: a random choice of very many."""
    if n_atoms <= MOST_ATOMS:
        return np.arange(n_atoms)
    return np.sort(np.random.default_rng(0).choice(n_atoms, MOST_ATOMS, replace=False, shuffle=False))


def _rows_of(columns: Mapping[str, Any], rows: NDArray[np.int64], n_atoms: int) -> dict[str, Any]:
    """These rows of all arrays that have one row for each atom; the rest is left out."""
    arrays = {
        name: one if isinstance(one, np.ndarray) else np.asarray(one)
        for name, one in columns.items()
        if not isinstance(one, Bonds | Grid | Table | str | None)
    }
    return {name: one[rows] for name, one in arrays.items() if one.ndim and len(one) == n_atoms}


def _straight(frame: Frame) -> bool:
    """Whether the cell vectors lie along the axes of space."""
    return bool(np.count_nonzero(np.abs(frame.cell) > 1e-9 * np.abs(frame.cell).max()) == 3)


def _in_cell(frame: Frame) -> NDArray[np.float64]:
    """Positions in the cell, along periodic axes."""
    if not frame.pbc.any():
        return frame.positions
    shares = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    return frame.positions - np.floor(shares + 1e-9) * frame.pbc @ frame.cell


def _add_points(arrays: Arrays, name: str, points: NDArray[np.float64]) -> list[float]:
    """Add (n, 3) points in steps of 1/65535 of their extent; return offsets and steps, three each."""
    low = points.min(axis=0) if len(points) else np.zeros(3)
    step = (points.max(axis=0) - low) / 65535 if len(points) else np.ones(3)
    step[step <= 0] = 1.0
    if step.max() > 0.01:  # Å; a cell of more than 650 Å
        arrays.add(name, points.T, "f4")
        return [0, 0, 0, 1, 1, 1]
    arrays.add(name, np.rint((points - low) / step).T, "u2")
    return [*low.tolist(), *step.tolist()]


def _add_scalars(arrays: Arrays, name: str, values: NDArray[np.float64]) -> list[float]:
    """Add scalars in 65534 steps, with 65535 for NaN; as float32 where a tail would take all steps."""
    known = np.isfinite(values)
    values = np.where(known, np.clip(values, -LARGEST, LARGEST), values)
    finite = values[known]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    usual = float(np.subtract(*np.quantile(finite, (0.95, 0.05)))) if finite.size else 0.0
    if high - low > 20 * usual and high > low:
        arrays.add(name, values, "f4")
        return [0, 1]
    step = (high - low) / 65534 or 1.0
    codes = np.full(len(values), 65535.0)
    codes[known] = np.rint((finite - low) / step)
    arrays.add(name, codes, "u2")
    return [low, step]


# ------------------------------------------------------------------------------------------ texts


def _loaded(reference: str) -> Any:
    """The object that a specification names as "module:name"."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _label(frame: Frame, place: int) -> str:
    index = frame.index if frame.index is not None else place
    parts = [f"frame {index}"]
    if frame.time is not None:
        parts.append(f"{number(frame.time)} {'τ' if frame.units == 'lj' else 'ps'}")
    elif frame.timestep is not None:
        parts.append(f"step {frame.timestep:,}")
    return ", ".join(parts)


def _numbers(fields: Mapping[str, Any]) -> list[list[str]]:
    """Title and value with unit of the numbers of a frame."""
    of_frame = fields.level("frame") if isinstance(fields, Fields) else {}
    return [
        [FIELD_SPECS[name].title, f"{number(float(value))} {FIELD_SPECS[name].unit}".rstrip()]
        for name, value in of_frame.items()
        if isinstance(value, int | float | np.number) and isfinite(value)
    ]


def _hex(color: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * min(max(part, 0), 1)):02x}" for part in color)


def color_maps() -> dict[str, list[list[int]]]:
    """Colors of the color maps at equal distances, 0 to 255."""
    import matplotlib as mpl

    made = {}
    for name in (SCALAR_MAP, "viridis", "gray"):
        made[name] = (mpl.colormaps[name](np.linspace(0, 1, 17))[:, :3] * 255).round().astype(int).tolist()
    made["gray"] = [[round(235 - 215 * k / 16)] * 3 for k in range(17)]
    made["blue-white-orange"] = [[69, 117, 181], [247, 245, 237], [217, 120, 41]]  # for values with a sign
    return made
