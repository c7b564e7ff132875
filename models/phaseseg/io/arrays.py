"""Configurations of glass formers with their propensities: NumPy archives and pickles of public benchmarks.

The formats have no standard; what an array means follows from its name and shape:

- GlassBench (DOI 10.5281/zenodo.10118191): `types` 1, 2, 3, `initial_positions` in [-L/2, L/2), those of the
  inherent structure and the cages, `md_prop` and `bb_prop` at ten times, predictions of methods;
- pyg_botan (DOI 10.1063/5.0129791): `types` 0, 1, `initial_positions` and the `positions` of all runs;
- Bapst et al. (DOI 10.1038/s41567-020-0842-8): pickles with `trajectory_target_positions`;
- reduced forms, as `phaseseg simulate ka3d --isoconfigurational` writes them: `positions`, `types`, `box`,
  `propensity` and `propensity_half`.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.io.pickled import PickleError, plain_objects
from phaseseg.io.reading import Block, Reading
from phaseseg.io.source import ByteSource

# Files of the benchmarks that name no box: number density in three dimensions, and the edge of the cells of
# 1290 particles in two dimensions.
_DENSITY = 1.2
_EDGE_2D = {1290: 32.8962}
# Relaxation times by temperature, and the ten times at the lowest one: GlassBench's files hold no times.
_TAU = {0.44: 4120.0, 0.5: 217.0, 0.56: 52.0, 0.64: 16.5}
_GRID = {0.44: (0.13, 1.3, 13.0, 130.0, 412.0, 1300.0, 4120.0, 13_000.0, 41_200.0, 130_000.0)}
_TAU_INDEX = 6
_MOST_BYTES = 4 << 30
# Names of arrays that get another one here.
_POSITIONS = {"initial_positions_inherent": "inherent_positions", "initial_positions_cage": "cage_positions"}
_USED = {
    "initial_positions",
    "positions",
    "types",
    "box",
    "md_prop",
    "targets",
    "times",
    "is_values",
    "units",
}


def read_npz(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The configuration in a NumPy archive."""
    data = source.rest()
    yield partial(_of_archive, data, source.name, reading)


def read_pickle(source: ByteSource, reading: Reading) -> Iterator[Block]:
    """The configuration in a pickle, which is not executed."""
    data = source.rest()
    yield partial(_of_pickle, data, source.name, reading)


def _of_archive(data: bytes, name: str, reading: Reading) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            found = {
                entry.filename.removesuffix(".npy"): _member(archive, entry)
                for entry in archive.infolist()
                if entry.filename.endswith(".npy")
            }
    except Exception as error:  # whatever zipfile and NumPy say about a damaged file
        raise reading.error(
            f"the archive cannot be read ({type(error).__name__}: {str(error)[:120]}). Write or copy the "
            "file again."
        ) from None
    return _frame(found, name, reading)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, without room for more than the archive holds."""
    if entry.file_size > _MOST_BYTES:
        raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")
    with archive.open(entry) as file:
        raw = file.read()
    stream = BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = head(stream)
    if kind.hasobject:
        raise ValueError(f"{entry.filename} holds objects, which are not read")
    if math.prod(shape) * kind.itemsize != len(raw) - stream.tell():
        raise ValueError(f"{entry.filename} has not as many numbers as it says")
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _of_pickle(data: bytes, name: str, reading: Reading) -> dict[str, Any]:
    try:
        found = plain_objects(data)
    except PickleError as error:
        raise reading.error(
            f"the pickle was not read: {error}. Only numbers, texts, lists, dictionaries and NumPy arrays "
            "are read from pickles."
        ) from None
    if not isinstance(found, Mapping):
        raise reading.error(
            f"the pickle holds a {type(found).__name__}, but a configuration is a dictionary with positions, "
            "types and box."
        )
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key == "metadata" and isinstance(value, Mapping):
            values |= {
                str(one): np.asarray(each) for one, each in value.items() if isinstance(each, int | float)
            }
        elif key == "trajectory_target_positions":
            values["runs"] = value
        elif not str(key).startswith("trajectory"):
            try:
                values[str(key)] = np.asarray(value)
            except ValueError:  # lists of different lengths: nothing of the configuration
                continue
    runs = values.pop("runs", None)
    if runs is not None:
        values |= _of_trajectories(values, runs, reading)
    return _frame(values, name, reading)


def _of_trajectories(values: dict[str, Any], runs: Any, reading: Reading) -> dict[str, Any]:
    """Propensities and their times, from the positions of all runs at the times."""
    try:
        start = np.asarray(values["positions"], dtype=np.float64)
        halves = [_lengths(np.asarray(one, dtype=np.float64), start) for one in runs]
        times = np.asarray(values["time"], np.float64)[np.asarray(values["time_indices"], np.int64)]
        if len(times) != len(halves):
            raise ValueError
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        raise reading.error(
            "the positions of the runs, trajectory_target_positions, do not belong to the positions, time "
            "and time_indices of the file. Copy the file again."
        ) from None
    del values["time"], values["time_indices"]
    return {
        "targets": np.array([mean for mean, _ in halves]), "times": times,
        "target_halves": np.array([half for _, half in halves]),
    }  # fmt: skip


def _lengths(ends: NDArray[np.float64], start: NDArray[np.float64]) -> tuple[Any, Any]:
    """Mean length (n,) of the displacements of all runs (n_runs, n, 3), and that of both halves (2, n)."""
    if ends.ndim != 3 or ends.shape[1:] != start.shape or not len(ends):
        raise ValueError
    lengths = np.linalg.norm(ends - start, axis=-1)
    half = len(ends) // 2
    parts = (lengths[:half], lengths[half:]) if half else (lengths, lengths)
    return lengths.mean(axis=0), np.stack([part.mean(axis=0) for part in parts])


# The frame ----------------------------------------------------------------------------------------


def _frame(values: dict[str, Any], name: str, reading: Reading) -> dict[str, Any]:
    key = "initial_positions" if "initial_positions" in values else "positions"
    types = values.get("types")
    if key not in values or types is None:
        there = ", ".join(sorted(values)) or "none"
        raise reading.error(
            f"a configuration needs the arrays positions (or initial_positions) and types; found "
            f"{there[:200]}."
        )
    positions, types = _numbers(values[key], key, reading), np.asarray(types)
    if positions.ndim != 2 or positions.shape[1] not in (2, 3) or types.shape != (len(positions),):
        raise reading.error(
            f"{key} must be an array (n, 3) and types (n,); found {positions.shape} and {types.shape}."
        )
    flat = positions.shape[1] == 2
    species = _species(types, reading)
    edges = _edges(values, positions, reading)
    origin = np.zeros(3)
    if len(positions) and positions.min() < -0.25 * edges.min():
        origin[: positions.shape[1]] = -edges / 2
    cell = np.diag([*edges, 1.0] if flat and edges.all() else [*edges, 0.0][:3])
    if flat:
        positions = np.column_stack([positions, np.zeros(len(positions))])
    info = {
        word: float(value)
        for word, value in values.items()
        if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf" and np.isfinite(value)
    }
    if "temperature" not in info and (found := re.search(r"T(\d+\.\d+)", name)):
        info["temperature"] = float(found[1].rstrip("."))
        reading.note(
            f"The temperature, {info['temperature']:g}, was taken from the name of the file.",
            "temperature-of-name",
        )
    columns = _columns(values, key, len(positions), info, name, reading) if reading.fields else {}
    return {
        "positions": positions, "cell": cell, "pbc": (True, True, not flat), "origin": origin,
        "species": species, "units": "lj", "fields": columns, "info": info,
    }  # fmt: skip


def _numbers(value: Any, name: str, reading: Reading) -> NDArray[np.float64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise reading.error(f"{name} must be numbers, found {array.dtype}.")
    return array.astype(np.float64)


def _species(types: NDArray[Any], reading: Reading) -> NDArray[np.int32]:
    """Codes: types 0, 1, ... or 1, 2, ... are A, B, ... unless the caller names them."""
    if types.dtype.kind not in "iufb" or not (types == np.floor(types)).all():
        raise reading.error("types must be whole numbers.")
    limited = np.clip(types.astype(np.float64), -10_000, 10_000).astype(np.int64)
    if reading.type_names:
        return reading.codes_of_types(limited)
    first = 0 if (limited == 0).any() else 1
    codes = limited - first
    if len(codes) and (codes.min() < 0 or codes.max() > 25):
        raise reading.unnamed(limited, "the file")
    return reading.codes_of_names(
        codes.astype(np.int32), [chr(ord("A") + k) for k in range(codes.max(initial=0) + 1)]
    )


def _edges(values: dict[str, Any], positions: NDArray[np.float64], reading: Reading) -> NDArray[np.float64]:
    """(2,) or (3,) edges of the cell: those in the file, of the caller, or of the benchmarks."""
    n_axes = positions.shape[1]
    box = values.get("box")
    if box is not None:
        edges = _numbers(box, "box", reading)
        edges = np.diag(edges) if edges.ndim == 2 and edges.shape[0] == edges.shape[1] else edges.ravel()
        edges = np.full(n_axes, edges[0]) if edges.size == 1 else edges[:n_axes]
        if edges.shape != (n_axes,) or not (np.isfinite(edges).all() and (edges > 0).all()):
            raise reading.error(f"box must be {n_axes} positive lengths, found {np.ravel(box)[:9].tolist()}.")
        return edges
    n = len(positions)
    edge = _EDGE_2D.get(n, 0.0) if n_axes == 2 else (n / _DENSITY) ** (1 / 3)
    with np.errstate(invalid="ignore"):
        extent = np.ptp(positions, axis=0) if n else np.zeros(n_axes)
    if (
        reading.cell is not None
        or not ((extent > 0.9 * edge) & (extent <= edge * (1 + 1e-6))).all()
        or not edge
    ):
        return np.zeros(n_axes)  # the caller must give one
    reading.note(
        f"The file has no box; that of the benchmark, with the edge {edge:.4f}, fits the positions and "
        "was used.",
        "box-of-benchmark",
    )
    return np.full(n_axes, edge)


def _columns(
    values: dict[str, Any], key: str, n: int, info: dict[str, float], name: str, reading: Reading
) -> dict[str, NDArray[np.float64]]:
    """Per-particle columns; times of propensities go into `info`."""
    found: dict[str, NDArray[np.float64]] = {}

    def per_particle(value: Any) -> NDArray[np.float64] | None:
        array = np.asarray(value)
        if array.dtype.kind not in "iufb" or not 1 <= array.ndim <= 2:
            return None
        if array.shape[0] != n and array.shape[-1] == n:
            array = array.T
        return array.astype(np.float64) if array.shape[0] == n else None

    for word, value in values.items():
        if word not in _USED and (column := per_particle(value)) is not None:
            found[_POSITIONS.get(word, word)] = column
    known = _TAU.get(info.get("temperature", 0.0), math.nan)
    ends = values.get("positions") if key == "initial_positions" else None
    if ends is not None:
        try:
            start = _numbers(values[key], key, reading)
            mean, halves = _lengths(_numbers(ends, "positions", reading), start)
        except ValueError:
            raise reading.error(
                f"positions must be those of all runs, (n_runs, {n}, 3); found {np.shape(ends)}."
            ) from None
        found |= {"propensity": mean, "propensity_half": halves.T}
        if re.search("tc0?7", name) and math.isfinite(known):
            info["propensity_time"] = known
    many = values.get("md_prop", values.get("targets"))
    if many is not None and (columns := per_particle(many)) is not None:
        columns = columns.reshape(n, -1)
        found |= _at_times(values, columns, n, info)
    found.pop("target_halves", None)
    return found


def _at_times(
    values: dict[str, Any], columns: NDArray[np.float64], n: int, info: dict[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Propensities at several times: `propensity` is that at the relaxation time."""
    n_times = columns.shape[1]
    of_glassbench = "md_prop" in values
    temperature = info.get("temperature", 0.0)
    times = np.full(n_times, math.nan)
    given = np.ravel(values.get("times", _GRID.get(temperature, ()) if of_glassbench else ()))
    if len(given) == n_times and given.dtype.kind in "iuf":
        times[:] = given
    main = n_times - 1
    if of_glassbench and n_times > _TAU_INDEX:
        main = _TAU_INDEX
        times[main] = _TAU.get(temperature, times[main])
    levels = np.ravel(values.get("is_values", ()))
    if len(levels) == n_times and levels.dtype.kind in "iuf":
        main = int(np.argmin(np.abs(levels - math.exp(-1))))
    halves = values.get("target_halves")
    found = {}
    for k in range(n_times):
        word = "propensity" if k == main else f"propensity_{k + 1}"
        found[word] = columns[:, k]
        if math.isfinite(times[k]):
            info[f"{word}_time"] = float(times[k])
        if halves is not None:
            found[f"{word}_half"] = np.asarray(halves[k], np.float64).T
    return found
