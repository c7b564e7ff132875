"""From frames to a trajectory: means with their errors, time series, the boundary width to choose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.segmentation.labels.composition import element_masses, fit_interface
from phaseseg.families.segmentation.labels.weak_labels import label_frame
from phaseseg.families.segmentation.rules import LabelRule, Rule
from phaseseg.fields import Fields, Table
from phaseseg.frame import Frame
from phaseseg.specs import FIELD_SPECS

FEW_INDEPENDENT = 10
"""Below so many independent samples an error bar is itself too small, and a sentence says so."""

_MIN_BLOCKS = 4


class BlockError(NamedTuple):
    """Mean of a correlated series, its standard error and the statistical inefficiency."""

    mean: float
    standard_error: float
    inefficiency: float


def block_error(values: ArrayLike) -> BlockError:
    """Mean of a correlated series and its standard error by block averaging.

    The series is cut into blocks of B = 1, 2, 4 ... values; the spread of the block means gives the
    standard error s(B), which grows with B until blocks are independent. The block is the shortest with
    B^3 > 2 n [s(B) / s(1)]^4, where what is still missing of the error equals the noise of s(B); where
    the series is too short for that, the largest s(B) of at least four blocks, which is a lower bound.
    An error below s(1) is noise of few blocks and not believed. The statistical inefficiency
    g = [s(B) / s(1)]^2 says how many values count as one: n / g are independent.

    Parameters
    ----------
    values : (n,) float64
        At even intervals of time. Values that are not finite are dropped.

    Returns
    -------
    BlockError
        Mean and error in the unit of the values. No value: three NaN; one value: error and inefficiency
        NaN; a constant: error 0, inefficiency 1.

    References
    ----------
    H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989), DOI 10.1063/1.457480; choice of the
    block: R. M. Lee et al., Phys. Rev. E 83, 066706 (2011), DOI 10.1103/PhysRevE.83.066706.

    Examples
    --------
    >>> block_error([1.0, 3.0, 1.0, 3.0]).mean
    2.0
    """
    series = np.asarray(values, dtype=np.float64).ravel()
    series = series[np.isfinite(series)]
    n = len(series)
    if n == 0:
        return BlockError(np.nan, np.nan, np.nan)
    mean = float(series.mean())
    if n == 1:
        return BlockError(mean, np.nan, np.nan)
    plain = float(series.std(ddof=1) / np.sqrt(n))
    if plain <= 1e-14 * abs(mean):  # rounding of a constant
        return BlockError(mean, 0.0, 1.0)
    largest, length = plain, 1
    while n // length >= _MIN_BLOCKS:
        n_blocks = n // length
        blocks = series[: n_blocks * length].reshape(n_blocks, length).mean(axis=1)
        error = max(plain, float(blocks.std(ddof=1) / np.sqrt(n_blocks)))
        if length**3 > 2 * n * (error / plain) ** 4:
            return BlockError(mean, error, (error / plain) ** 2)
        largest = max(largest, error)
        length *= 2
    return BlockError(mean, largest, (largest / plain) ** 2)


class _Weighted(NamedTuple):
    """A weighted mean, and how much each frame pulls at it: the error of their mean is that of the mean."""

    mean: float
    pulls: NDArray[np.float64]

    @property
    def error(self) -> float:
        return block_error(self.pulls).standard_error


def _weighted(values: NDArray[np.float64], weights: NDArray[np.float64]) -> _Weighted:
    """Mean of `values` by `weights`; frames without a value or weight pull at nothing."""
    counted = np.isfinite(values) & (weights > 0)
    weights = np.where(counted, weights, 0.0)
    if not counted.any():
        return _Weighted(np.nan, np.full(len(values), np.nan))
    mean = float(weights @ np.where(counted, values, 0.0) / weights.sum())
    return _Weighted(mean, weights * (np.where(counted, values, mean) - mean) / weights.mean())


class Summary:
    """What a trajectory of labeled frames amounts to; a single frame is a trajectory of one.

    Only numbers are kept of a frame, so memory stays small for any number of atoms. Errors are standard
    errors of the mean by `block_error`; they are NaN for a single frame.

    rule : how the frames are labeled: gives the unit of the cut, and the species whose mean profile across
        the interface is fitted
    """

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule: Rule = rule or LabelRule()
        self._scalars: list[dict[str, float]] = []
        self._composition: list[dict[str, dict[str, float]]] = []
        self._partition: list[dict[str, dict[str, float]]] = []
        self._proxigrams: list[Mapping[str, NDArray[Any]]] = []
        self._messages: dict[str, list[str]] = {}
        self._elements: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._scalars)

    def add(self, frame: Frame, fields: Fields) -> None:
        """Take in the labels of one frame; frames come in the order of time."""
        present = tuple(frame.species_names)
        self._elements += tuple(name for name in present if name not in self._elements)
        scalars = {name: float(value) for name, value in fields.level("frame").items()}
        time = np.nan if frame.time is None else frame.time
        step = np.nan if frame.timestep is None else frame.timestep
        self._scalars.append({"timestep": step, "time": time, **scalars})
        self._composition.append(_by(fields.get("composition"), "phase"))
        self._partition.append(_by(fields.get("partition"), "element"))
        proxigram = fields.get("proxigram")
        self._proxigrams.append({} if proxigram is None else proxigram.columns)
        for sentence in fields.messages:
            # Sentences of many frames differ in their numbers only: they are told once.
            kind = re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", sentence)
            self._messages.setdefault(kind, []).append(sentence)

    @property
    def messages(self) -> tuple[str, ...]:
        """The sentences of all frames, those that differ in numbers only told once, and our own."""
        n_frames = len(self)
        told = tuple(
            sentence[0]
            if n_frames == 1
            else f"{len(sentence)} of {n_frames} frames, the first: {sentence[0]}"
            for sentence in self._messages.values()
        )
        return (*told, *self._own_messages())

    def _own_messages(self) -> tuple[str, ...]:
        n_cut = sum(self._cut())
        if n_cut < 2:
            return ()
        inefficiency = block_error(self._series("rich_mass_fraction")).inefficiency
        if not n_cut / inefficiency < FEW_INDEPENDENT:
            return ()
        sentence = (
            f"The {n_cut} frames amount to about {max(1, round(n_cut / inefficiency))} independent ones "
            f"(statistical inefficiency {inefficiency:.0f} of the rich mass fraction): "
            "take the error bars as lower bounds."
        )
        return (sentence,)

    def _cut(self) -> NDArray[np.bool_]:
        """Which frames have two labeled phases, by the verdict or on demand."""
        return np.array([row.get("n_domains", row["n_phases"] - 1) > 0 for row in self._scalars], dtype=bool)

    def _series(self, name: str) -> NDArray[np.float64]:
        return np.array([row.get(name, np.nan) for row in self._scalars], dtype=np.float64)

    def tables(self) -> dict[str, Table]:
        """Tables of means and errors; a column `X ±` is the standard error of the column `X`.

        Returns
        -------
        dict of Table
            `composition`: a row a phase, averaged over the frames of two phases ("all": over every frame),
            frames weighted by their mass (wt%) or atoms (at%) in the phase;
            `partition`: a row an element; the mean of the coefficients of the frames (infinite where the
            poor phase of one frame lacks the element) and, as `D of means`, the quotient of mean contents;
            `scalars`: a row a number of level "frame";
            `time_series`: a row a frame;
            `proxigram`: a row a distance, every frame weighted by its atoms there.
            Tables of what no frame has are left out.
        """
        tables = {
            "composition": self._composition_table(),
            "partition": self._partition_table(),
            "scalars": self._scalar_table(),
            "time_series": self._time_table(),
            "proxigram": self._proxigram_table(),
        }
        return {name: table for name, table in tables.items() if len(table)}

    def _composition_table(self) -> Table:
        rows = []
        for phase in dict.fromkeys(phase for frame in self._composition for phase in frame):
            atoms = self._of_phase(phase, "atoms")
            if not np.nansum(atoms):
                continue
            row: dict[str, Any] = {"phase": phase, "frames": int((atoms > 0).sum())}
            for column in self._composition[0][phase]:
                if column.endswith("%)"):
                    content = self._content(phase, column)
                    row[column], row[f"{column} ±"] = content.mean, content.error
                else:
                    row[column], row[f"{column} ±"], _ = block_error(self._of_phase(phase, column))
            rows.append(row)
        return _table("Composition", rows)

    def _of_phase(self, phase: str, column: str) -> NDArray[np.float64]:
        """(n,) of the frames that were cut; of every frame for the phase "all"."""
        return np.array(
            [
                frame.get(phase, {}).get(column, np.nan)
                for frame, cut in zip(self._composition, self._cut(), strict=True)
                if cut or phase == "all"
            ]
        )

    def _content(self, phase: str, column: str) -> _Weighted:
        by = "mass fraction" if column.endswith("(wt%)") else "atoms"
        return _weighted(self._of_phase(phase, column), self._of_phase(phase, by))

    def _partition_table(self) -> Table:
        frames = [frame for frame, use in zip(self._partition, self._cut(), strict=True) if use]
        rows = []
        for element in dict.fromkeys(name for frame in frames for name in frame):
            row: dict[str, Any] = {"element": element}
            for column in frames[0].get(element, {}):
                values = np.array([frame.get(element, {}).get(column, np.nan) for frame in frames])
                # One frame whose poor phase lacks the element makes the mean infinite: not to be hidden.
                mean, error, _ = block_error(values)
                infinite = bool(np.isinf(values).any())
                row[column], row[f"{column} ±"] = (np.inf, np.nan) if infinite else (mean, error)
                bulk = " bulk" if "bulk" in column else ""
                content = f"{element} ({'at' if '(at)' in column else 'wt'}%)"
                rich, poor = (self._content(f"{phase}{bulk}", content) for phase in ("rich", "poor"))
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.float64(rich.mean) / poor.mean
                    pulls = (rich.pulls - ratio * poor.pulls) / poor.mean
                row[f"{column} of means"] = float(ratio)
                row[f"{column} of means ±"] = block_error(pulls).standard_error
            rows.append(row)
        return _table("Partition coefficients", rows)

    def _unit(self, name: str) -> str:
        if name not in FIELD_SPECS:
            return "ps" if name == "time" else ""
        return self.rule.unit if name.startswith("threshold") else FIELD_SPECS[name].unit

    def _scalar_table(self) -> Table:
        rows = []
        for name in dict.fromkeys(name for row in self._scalars for name in row if name in FIELD_SPECS):
            spec, values = FIELD_SPECS[name], self._series(name)
            mean, error, inefficiency = block_error(values)
            rows.append(
                {"name": name, "title": spec.title, "unit": self._unit(name), "mean": mean, "mean ±": error,
                 "statistical inefficiency": inefficiency, "frames": int(np.isfinite(values).sum())}
            )  # fmt: skip
        if rows:
            if len(self) > 1:
                mean, error = self._mean_profile_width()
                title = "Interface width of the mean profile"
                rows.append(
                    {"name": "mean_profile_width", "title": title, "unit": "Å", "mean": mean,
                     "mean ±": error, "statistical inefficiency": np.nan, "frames": len(self)}
                )  # fmt: skip
            mean, error, inefficiency = block_error((self._series("n_phases") == 2).astype(float))
            rows.append(
                {"name": "two_phase_share", "title": "Share of frames of two phases", "unit": "",
                 "mean": mean, "mean ±": error, "statistical inefficiency": inefficiency, "frames": len(self)}
            )  # fmt: skip
        return _table("Numbers of the frames", rows)

    def _time_table(self) -> Table:
        columns: dict[str, NDArray[Any]] = {"frame": np.arange(len(self))}
        for name in dict.fromkeys(name for row in self._scalars for name in row):
            values = self._series(name)
            if np.isfinite(values).any():
                unit = self._unit(name)
                whole = np.isfinite(values).all() and (
                    name == "timestep" or (name in FIELD_SPECS and FIELD_SPECS[name].kind == "count")
                )
                columns[f"{name} ({unit})" if unit else name] = values.astype(np.int64) if whole else values
        for phase in ("rich", "poor"):
            for element in self._elements:
                column = f"{element} (wt%)"
                values = np.array([frame.get(phase, {}).get(column, np.nan) for frame in self._composition])
                if np.isfinite(values).any():
                    columns[f"{phase} {column}"] = values
        return Table("Time series", columns)

    def _profiles(self) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Distances (n_bins,), and each column as (n_frames, n_bins), NaN where a frame has no atoms."""
        distance = "distance (Å)"
        filled = [frame for frame in self._proxigrams if len(frame.get(distance, ()))]
        if not filled:
            return np.empty(0), {}
        # Frames may end at different distances; equal distances are equal but for rounding.
        bins = [np.round(np.asarray(frame[distance], dtype=float), 6) for frame in filled]
        centers = np.unique(np.concatenate(bins))
        names = dict.fromkeys(name for frame in filled for name in frame if name != distance)
        profiles = {name: np.full((len(filled), len(centers)), np.nan) for name in names}
        for row, (frame, places) in enumerate(zip(filled, bins, strict=True)):
            for name, values in frame.items():
                if name != distance:
                    profiles[name][row, np.searchsorted(centers, places)] = values
        profiles["atoms"] = np.nan_to_num(profiles["atoms"])
        return centers, profiles

    def _proxigram_table(self) -> Table:
        centers, profiles = self._profiles()
        if not profiles:
            return Table("Proxigram", {})
        atoms = profiles.pop("atoms")
        columns: dict[str, NDArray[Any]] = {"distance (Å)": centers, "atoms": atoms.mean(axis=0)}
        for name, values in profiles.items():
            results = [_weighted(*pair) for pair in zip(values.T, atoms.T, strict=True)]
            columns[name] = np.array([result.mean for result in results])
            columns[f"{name} ±"] = np.array([result.error for result in results])
        return Table("Proxigram", columns)

    def _mean_profile_width(self) -> tuple[float, float]:
        """Width fitted to the profile of all frames, Å, and its error by a jackknife of eight blocks.

        Other than the mean of the frames' own widths it is not biased by their noise.
        """
        centers, profiles = self._profiles()
        names = [f"{name} (at%)" for name in self.rule.species if f"{name} (at%)" in profiles]
        if not names:
            return np.nan, np.nan
        atoms = profiles["atoms"]
        chosen = np.nan_to_num(sum(profiles[name] for name in names)) * atoms / 100

        def width(rows: NDArray[np.int64]) -> float:
            total = atoms[rows].sum(axis=0)
            kept = total > 0
            share = chosen[rows].sum(axis=0)[kept] / total[kept]
            return fit_interface(centers[kept], share, total[kept])[1]

        everything = np.arange(len(atoms))
        blocks = np.array_split(everything, 8)
        if len(blocks[-1]) < 2:
            return width(everything), np.nan
        without = np.array([width(np.setdiff1d(everything, block)) for block in blocks])
        error = np.sqrt(7 / 8 * ((without - without.mean()) ** 2).sum())
        return width(everything), float(error)


def _by(table: Table | None, key: str) -> dict[str, dict[str, float]]:
    """Rows of a table under their name in column `key`, with its columns of numbers."""
    if table is None:
        return {}
    return {
        str(row[key]): {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}
        for row in table.rows()
    }


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(title, {name: np.array([row.get(name, np.nan) for row in rows]) for name in names})


# ------------------------------------------------------------------------------- boundary width


BOUNDARY_WIDTHS = np.arange(0.0, 4.1, 0.34)
"""Widths that are tried, Å: whole steps of 0.34 Å, as in the paper, up to 4.08 Å."""


class BoundaryScan:
    """Content of the rich phase for several boundary widths, frame by frame.

    An atom is rich where its distance to the interface exceeds w/2, so one labeling of a frame
    serves every width w.

    Parameters
    ----------
    species : names whose content is followed, together
    widths : (n_widths,) float64, Å

    Raises
    ------
    ValueError
        For a width below 0 or no width at all.
    """

    def __init__(self, species: Sequence[str], widths: ArrayLike = BOUNDARY_WIDTHS) -> None:
        self.species = tuple(species)
        self.widths = np.atleast_1d(np.asarray(widths, dtype=np.float64))
        if self.widths.ndim != 1 or not len(self.widths) or not (self.widths >= 0).all():
            raise ValueError(f"widths must be lengths in Å not below 0, found {np.asarray(widths).tolist()}.")
        self._contents: list[NDArray[np.float64]] = []

    def add(self, frame: Frame, fields: Fields) -> None:
        """Take in a frame; one without an interface is passed over."""
        distance = np.asarray(fields["interface_distance"], dtype=np.float64)
        inside = distance > 0
        if not inside.any():
            return
        mass = element_masses(frame.species_names)[frame.species[inside]]
        if np.isnan(mass).any():
            raise ValueError(f"{', '.join(frame.species_names)} are not all elements of known mass.")
        target = np.where(frame.species_mask(self.species)[inside], mass, 0.0)
        # Mass farther inside than each half width: cumulated from the innermost atom outward.
        order = np.argsort(-distance[inside])
        deeper = np.searchsorted(-distance[inside][order], -self.widths / 2, side="left")
        total, found = (
            np.concatenate(([0.0], np.cumsum(values[order])))[deeper] for values in (mass, target)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            self._contents.append(np.where(total > 0, 100 * found / total, np.nan))

    def table(self) -> Table:
        """A row a width: mean with standard error, variance over the frames, whether it is the least."""
        contents = np.array(self._contents).reshape(-1, len(self.widths))
        n_frames = np.isfinite(contents).sum(axis=0)
        results = [block_error(column) for column in contents.T]
        variance = np.full(len(self.widths), np.nan)
        for index in np.flatnonzero(n_frames > 1):
            variance[index] = np.nanvar(contents[:, index], ddof=1)
        # A width at which some frames have no atom left is not compared with one where all have.
        usable = (n_frames == len(contents)) & np.isfinite(variance)
        best = np.zeros(len(self.widths), dtype=bool)
        if usable.any():
            best[np.argmin(np.where(usable, variance, np.inf))] = True
        name = "+".join(self.species)
        return Table(
            f"Rich phase against the boundary width: {name}",
            {
                "boundary width (Å)": self.widths,
                f"{name} (wt%)": np.array([result.mean for result in results]),
                f"{name} (wt%) ±": np.array([result.standard_error for result in results]),
                f"variance of {name} (wt%^2)": variance,
                "frames": n_frames,
                "least variance": best,
            },
        )


def boundary_width_scan(
    frames: Iterable[Frame], rule: LabelRule, widths: ArrayLike = BOUNDARY_WIDTHS
) -> Table:
    """Content of the rich phase in the chosen species, and its variance, for each boundary width.

    The paper's way to choose a width: the one at which the composition of the metal varies least over
    a trajectory (S. Shakya and B. B. Karki, KDIR 2025, Fig. 2, DOI 10.5220/0013709400004000). Each
    frame is labeled once. Frames of one phase are passed over.

    Parameters
    ----------
    frames : the trajectory
    rule : how to label; its own `boundary_width` plays no part
    widths : (n_widths,) float64, Å

    Returns
    -------
    Table
        Columns `boundary width (Å)`, `Fe (wt%)`, `Fe (wt%) ±`, `variance of Fe (wt%^2)`, `frames`,
        `least variance`; variances are NaN for fewer than two frames of two phases.

    Raises
    ------
    ValueError
        For bad widths, and as `label_frame`.
    """
    scan = BoundaryScan(rule.species, widths)
    for frame in frames:
        scan.add(frame, label_frame(frame, rule))
    return scan.table()


def boundary_sentence(table: Table) -> str:
    """What a table by `boundary_width_scan` says, and how far it can be trusted."""
    best = best_boundary_width(table)
    if best is None:
        return "Too few frames of two phases to choose a boundary width."
    variance = table.columns[next(name for name in table.columns if name.startswith("variance"))]
    n_frames = int(table.columns["frames"][0])
    # The variance of n values is known to sqrt(2 / (n - 1)) of itself.
    alike = variance <= np.nanmin(variance[table.columns["least variance"]]) * (
        1 + np.sqrt(2 / (n_frames - 1))
    )
    widths = table.columns["boundary width (Å)"][alike]
    sentence = f"The content of the rich phase varies least at a boundary width of {best:.2f} Å"
    if len(widths) == 1:
        return f"{sentence}."
    return (
        f"{sentence}; {n_frames} frames do not tell it from "
        f"{', '.join(f'{width:.2f}' for width in widths if width != best)} Å."
    )


def best_boundary_width(table: Table) -> float | None:
    """The width of least variance, Å, of a table by `boundary_width_scan`; None where there is none."""
    best = np.flatnonzero(table.columns["least variance"])
    return float(table.columns["boundary width (Å)"][best[0]]) if len(best) else None
