"""From frames to a trajectory: means with their errors, time series, the boundary width to choose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.segmentation.config import LabelRule
from phaseseg.fields import FIELD_SPECS, Fields, Table
from phaseseg.frame import Frame

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


def _ratio_error(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> BlockError:
    """Ratio of two means; its error is that of the residuals r_t = (a_t - R b_t) / mean(b)."""
    usable = np.isfinite(numerator) & np.isfinite(denominator)
    numerator, denominator = numerator[usable], denominator[usable]
    if not denominator.sum():
        return BlockError(np.nan, np.nan, np.nan)
    ratio = float(numerator.sum() / denominator.sum())
    _, error, inefficiency = block_error((numerator - ratio * denominator) / denominator.mean())
    return BlockError(ratio, error, inefficiency)


class Summary:
    """What a trajectory of labeled frames amounts to; a single frame is a trajectory of one.

    Only numbers are kept of a frame, so memory stays small for any number of atoms. Errors are standard
    errors of the mean by `block_error`; they are NaN for a single frame.
    """

    def __init__(self) -> None:
        self._scalars: list[dict[str, float]] = []
        self._composition: list[dict[str, dict[str, float]]] = []
        self._partition: list[dict[str, dict[str, float]]] = []
        self._proxigrams: list[Mapping[str, NDArray[Any]]] = []
        self._messages: dict[str, list[str]] = {}
        self._species: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._scalars)

    def add(self, frame: Frame, fields: Fields) -> None:
        """Take in the labels of one frame; frames come in the order of time."""
        present = tuple(frame.species_names)
        self._species += tuple(name for name in present if name not in self._species)
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
        n_two = sum(self._two_phases())
        if n_two < 2:
            return ()
        inefficiency = block_error(self._series("rich_mass_fraction")).inefficiency
        if not n_two / inefficiency < FEW_INDEPENDENT:
            return ()
        sentence = (
            f"The {n_two} frames amount to about {max(1, round(n_two / inefficiency))} independent ones "
            f"(statistical inefficiency {inefficiency:.0f} of the rich mass fraction): "
            "take the error bars as lower bounds."
        )
        return (sentence,)

    def _two_phases(self) -> NDArray[np.bool_]:
        return np.array([row.get("n_phases", 2) >= 2 for row in self._scalars], dtype=bool)

    def _series(self, name: str) -> NDArray[np.float64]:
        return np.array([row.get(name, np.nan) for row in self._scalars], dtype=np.float64)

    def tables(self) -> dict[str, Table]:
        """Tables of means and errors; a column `X ±` is the standard error of the column `X`.

        Returns
        -------
        dict of Table
            `composition`: a row a phase, averaged over the frames of two phases ("all": over every frame);
            `partition`: a row an element; the mean of the coefficients of the frames and, as
            `D of means`, the quotient of the mean contents, which scarce elements do not bias;
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
        two = self._two_phases()
        rows = []
        for phase in dict.fromkeys(phase for frame in self._composition for phase in frame):
            counted = np.ones(len(self), dtype=bool) if phase == "all" else two
            frames = [
                frame[phase]
                for frame, use in zip(self._composition, counted, strict=True)
                if use and phase in frame
            ]
            if any(values.get("atoms", 1) for values in frames):
                rows.append({"phase": phase, "frames": len(frames), **_averaged(frames)})
        return _table("Composition", rows)

    def _partition_table(self) -> Table:
        frames = [frame for frame, use in zip(self._partition, self._two_phases(), strict=True) if use]
        rows = []
        for element in dict.fromkeys(name for frame in frames for name in frame):
            row: dict[str, Any] = {"element": element}
            for name, value in _averaged([frame[element] for frame in frames if element in frame]).items():
                row[name] = value
                if name.endswith("±"):
                    column = name.removesuffix(" ±")
                    ratio = self._ratio_of_means(element, column)
                    row[f"{column} of means"], row[f"{column} of means ±"] = ratio[:2]
            rows.append(row)
        return _table("Partition coefficients", rows)

    def _ratio_of_means(self, element: str, column: str) -> BlockError:
        unit = "at%" if "(at)" in column else "wt%"
        bulk = " bulk" if "bulk" in column else ""
        contents = [
            np.array(
                [
                    frame.get(f"{phase}{bulk}", {}).get(f"{element} ({unit})", np.nan)
                    for frame in self._composition
                ]
            )
            for phase in ("rich", "poor")
        ]
        two = self._two_phases()
        return _ratio_error(contents[0][two], contents[1][two])

    def _scalar_table(self) -> Table:
        rows = []
        for name in dict.fromkeys(name for row in self._scalars for name in row if name in FIELD_SPECS):
            spec, values = FIELD_SPECS[name], self._series(name)
            mean, error, inefficiency = block_error(values)
            rows.append(
                {"name": name, "title": spec.title, "unit": spec.unit, "mean": mean, "mean ±": error,
                 "statistical inefficiency": inefficiency, "frames": int(np.isfinite(values).sum())}
            )  # fmt: skip
        if rows:
            mean, error, inefficiency = block_error(self._two_phases().astype(float))
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
                unit = "ps" if name == "time" else FIELD_SPECS[name].unit if name in FIELD_SPECS else ""
                whole = np.isfinite(values).all() and (
                    name == "timestep" or (name in FIELD_SPECS and FIELD_SPECS[name].kind == "count")
                )
                columns[f"{name} ({unit})" if unit else name] = values.astype(np.int64) if whole else values
        for phase in ("rich", "poor"):
            for element in self._species:
                column = f"{element} (wt%)"
                values = np.array([frame.get(phase, {}).get(column, np.nan) for frame in self._composition])
                if np.isfinite(values).any():
                    columns[f"{phase} {column}"] = values
        return Table("Time series", columns)

    def _proxigram_table(self) -> Table:
        names = list(dict.fromkeys(name for frame in self._proxigrams for name in frame))
        distance = next((name for name in names if name.startswith("distance")), "")
        filled = [frame for frame in self._proxigrams if len(frame.get(distance, ()))]
        if not filled:
            return Table("Proxigram", {})
        # Frames may end at different distances; equal distances are equal but for rounding.
        bins = [np.round(np.asarray(frame[distance], dtype=float), 6) for frame in filled]
        centers = np.unique(np.concatenate(bins))
        places = [np.searchsorted(centers, values) for values in bins]

        def spread(name: str) -> NDArray[np.float64]:
            values = np.full((len(filled), len(centers)), np.nan)
            for row, frame, place in zip(values, filled, places, strict=True):
                row[place] = frame[name]
            return values

        atoms = np.nan_to_num(spread("atoms"))
        columns: dict[str, NDArray[Any]] = {distance: centers, "atoms": atoms.mean(axis=0)}
        for name in names:
            if name not in (distance, "atoms"):
                amount = np.nan_to_num(spread(name)) * atoms
                results = [_ratio_error(*pair) for pair in zip(amount.T, atoms.T, strict=True)]
                columns[name] = np.array([result.mean for result in results])
                columns[f"{name} ±"] = np.array([result.standard_error for result in results])
        return Table("Proxigram", columns)


def _by(table: Table | None, key: str) -> dict[str, dict[str, float]]:
    """Rows of a table under their name in column `key`, with its columns of numbers."""
    if table is None:
        return {}
    return {
        str(row[key]): {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}
        for row in table.rows()
    }


def _averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    result: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        result[name], result[f"{name} ±"], _ = block_error([row.get(name, np.nan) for row in rows])
    return result


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
        mass = _masses(frame)[inside]
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
    from phaseseg.families.segmentation.labels import label_frame

    scan = BoundaryScan(rule.species, widths)
    for frame in frames:
        scan.add(frame, label_frame(frame, rule))
    return scan.table()


def best_boundary_width(table: Table) -> float | None:
    """The width of least variance, Å, of a table by `boundary_width_scan`; None where there is none."""
    best = np.flatnonzero(table.columns["least variance"])
    return float(table.columns["boundary width (Å)"][best[0]]) if len(best) else None


def _masses(frame: Frame) -> NDArray[np.float64]:
    from ase.data import atomic_masses, atomic_numbers

    unknown = [name for name in frame.species_names if name not in atomic_numbers]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} are no chemical elements, so they have no content by weight.")
    table = np.array([atomic_masses[atomic_numbers[name]] for name in frame.species_names])
    return np.asarray(table[frame.species])
