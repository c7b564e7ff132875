"""Trajectory statistics: means with errors, time series, and the choice of a boundary width.

Labeling is imported where it is needed: a command whose workers label the frames does without the compiler.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phaseseg.families.segmentation.fields import DENSITY
from phaseseg.families.segmentation.labels.composition import (
    ATOMS,
    BIN_WIDTH,
    COEFFICIENTS,
    DISTANCE,
    MASS_DENSITY,
    MOLECULES,
    N_BINS,
    NUMBER,
    VOLUME,
    WEIGHT,
    composition_in,
)
from phaseseg.families.segmentation.labels.masses import element_masses
from phaseseg.families.segmentation.labels.profile import Kernel, interface_width
from phaseseg.families.segmentation.rules import FixedRule, LabelRule, Rule
from phaseseg.families.segmentation.table_series import TableSeries
from phaseseg.fields import Column, Fields, Message, MessageCounter, Table, size_messages
from phaseseg.frame import Frame
from phaseseg.report import TextTable
from phaseseg.specs import FIELD_SPECS
from phaseseg.statistics import block_error
from phaseseg.summary import FrameColumns

FEW_INDEPENDENT = 10
"""With fewer independent frames, error bars are underestimated, and a message says so."""

MEAN, ATOM_COUNT = Column("mean"), Column("atoms")
CONTENTS = {WEIGHT: Column("mass fraction"), ATOMS: ATOM_COUNT, MOLECULES: Column("molecules")}
"""Units of contents, and by what the contents of several frames are weighted."""
ALL = "all"
PHASE_COLORS = {"rich": "dark_orange3", "poor": "steel_blue", "boundary": "khaki3"}
"""Colors of the rows on a terminal."""


class TrajectorySummary:
    """Means and errors over the labeled frames of a trajectory, which may be a single frame.

    The memory does not grow with the number of frames. The scalars and contents of the phases of each frame
    go to a temporary file, for the time series (`FrameColumns`). The other tables are averaged: up to
    `MOST_ENTRIES` frames are kept singly, more are merged in pairs (`TableSeries`). Errors are standard
    errors of the mean by `block_error`; they are NaN for a single frame.

    Parameters
    ----------
    rule : rule of the labels, default `LabelRule()`; it determines the unit of the threshold, and the species
        whose mean profile across the interface is fitted. The first frame determines what it leaves open.
    source : name of the trajectory, for headings
    """

    def __init__(self, rule: Rule | LabelRule | None = None, source: str = "") -> None:
        self._rule = rule or LabelRule()
        self.source = source
        self._scalars, self._cut, self._contents = FrameColumns(), FrameColumns(), FrameColumns()
        # Phases are averaged over the frames with two of them, "all" over every frame.
        self._phases = {name: TableSeries(_weight_of_content) for name in ("phases", ALL)}
        self._n_filled: Counter[str] = Counter()
        self._headings: dict[str, dict[Any, None]] = {"rows": {}, "columns": {}}
        self._partition = TableSeries(lambda column: None)
        self._proxigram = TableSeries(_weight_in_profile)
        self._messages = MessageCounter()
        self._elements: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._scalars)

    @property
    def rule(self) -> Rule:
        """The rule, with the values that the first frame determined."""
        if isinstance(self._rule, LabelRule):
            return self._rule.fixed(("Fe",), FixedRule.sigma)
        return self._rule

    def add(self, frame: Frame, fields: Fields) -> None:
        """Add the labels of one frame; add frames in chronological order."""
        if not isinstance(self._rule, Rule):
            from phaseseg.families.segmentation.labels.automatic import rule_of

            self._rule = rule_of(frame, self._rule)
        self._elements |= dict.fromkeys(frame.species_names)
        scalars = {
            "timestep": frame.timestep,
            "time": frame.time,
            "atoms": len(frame),
            **fields.level("frame"),
        }
        self._scalars.add({name: np.nan if v is None else float(v) for name, v in scalars.items()})
        # Two labeled phases, by the verdict or as requested.
        cut = bool(scalars.get("n_domains", scalars.get("n_phases", 1) - 1) > 0)
        self._cut.add({"cut": cut})
        self._add_composition(fields.get("composition"), cut=cut)
        if cut and "partition" in fields:
            columns = fields["partition"].columns
            self._partition.add(columns["element"].tolist(), columns)
        profile = fields["proxigram"].columns if "proxigram" in fields else {}
        if len(profile.get(DISTANCE, ())):
            # Frames may end at different distances. Equal distances can differ by rounding.
            centers = np.round(np.asarray(profile[DISTANCE], dtype=float), 6).tolist()
            self._proxigram.add(centers, {name: v for name, v in profile.items() if name != DISTANCE})
        self._messages.add(fields.messages)

    def _add_composition(self, table: Table | None, *, cut: bool) -> None:
        columns: Mapping[Any, NDArray[Any]] = {} if table is None else table.columns
        phases = columns["phase"] if columns else np.empty(0, dtype=str)
        for phase, n in zip(phases.tolist(), columns.get("atoms", ()), strict=True):
            self._n_filled[phase] += bool(n > 0 and (cut or phase == ALL))
        self._headings["rows"] |= dict.fromkeys(phases.tolist())
        self._headings["columns"] |= dict.fromkeys(
            name for name, values in columns.items() if values.dtype.kind in "biuf"
        )
        for name, series in self._phases.items():
            here = phases == ALL if name == ALL else (phases != ALL) & cut
            if name == ALL or cut:
                series.add(phases[here].tolist(), {name: values[here] for name, values in columns.items()})
        of_phase: dict[str, float] = {
            Column(name.quantity, WEIGHT, part=phase): float(columns[name][row])
            for row, phase in enumerate(phases.tolist()) if phase in ("rich", "poor")
            for name in columns if name.unit == WEIGHT
        }  # fmt: skip
        for column in self._contents:
            if column not in of_phase:  # an absent element
                of_phase[column] = 0.0 * next(
                    (v for k, v in of_phase.items() if _phase(k) == _phase(column)), nan
                )
        self._contents.add(of_phase)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Messages of all frames, one for each code, and a message if there are too few frames."""
        sizes = size_messages(self._series("atoms").astype(int).tolist())
        found, n_cut = (*self._messages.messages(), *sizes), int(self._is_cut.sum())
        inefficiency = block_error(self._series("rich_mass_fraction")).inefficiency
        if n_cut < 2 or not n_cut / inefficiency < FEW_INDEPENDENT:
            return found
        text = (
            f"The {n_cut} frames correspond to about {max(1, round(n_cut / inefficiency))} independent ones "
            f"(statistical inefficiency of the rich mass fraction: {inefficiency:.0f}); "
            "the error bars are lower bounds."
        )
        return (*found, Message(text, "few-independent-frames"))

    def shown(self) -> Iterator[TextTable]:
        """Yield the composition by weight and by atoms as terminal tables."""
        n = len(self)
        what = f"mean ± standard error of {n} frames" if n > 1 else "1 frame"
        composition = self._composition_table()
        for unit in CONTENTS:
            table = composition_in(composition, unit)
            if len(table):
                styles = [PHASE_COLORS.get(phase) for phase in table.columns["phase"].tolist()]
                yield TextTable.of_table(table, f"{self.source}, {unit} ({what})", styles)

    @property
    def _is_cut(self) -> NDArray[np.bool_]:
        """Mask of the frames with two labeled phases."""
        return self._cut.floats("cut") > 0

    def _series(self, name: str) -> NDArray[np.float64]:
        return self._scalars.floats(name)

    def tables(self) -> dict[str, Table]:
        """Return tables of means and errors; the column `X ±` is the standard error of the column `X`.

        Returns
        -------
        dict of Table
            `composition`: one row per phase, averaged over the frames with two phases ("all": over all
            frames), which are weighted by their mass (wt%) or atoms (at%) in the phase;
            `partition`: one row per element; the mean of the coefficients over frames (infinite if the poor
            phase of any frame lacks the element) and, as `D of means`, the ratio of the mean contents;
            `scalars`: one row per scalar of level "frame";
            `time_series`: one row per frame;
            `proxigram`: one row per distance, with frames weighted by their atoms there.
            Tables without data are omitted.
        """
        tables = {
            "composition": self._composition_table(), "partition": self._partition_table(),
            "scalars": self.scalar_table(), "time_series": self._time_table(),
            "proxigram": self._proxigram_table(),
        }  # fmt: skip
        return {name: table for name, table in tables.items() if len(table)}

    def _composition_table(self) -> Table:
        rows = []
        for phase in self._headings["rows"]:
            series = self._phases["phases" if phase != ALL else ALL]
            atoms = series.mean(phase, ATOM_COUNT).mean
            if not atoms > 0:
                continue
            row: dict[str, Any] = {"phase": phase, "frames": self._n_filled[phase]}
            for column in self._headings["columns"]:
                if column.unit in CONTENTS:
                    content = series.content(phase, column)
                    row[column], row[column.error] = content.mean, content.error
                else:
                    row[column], row[column.error], _ = series.mean(phase, column)
            rows.append(row)
        return Table.of_rows("Composition", rows)

    def _partition_table(self) -> Table:
        rows = []
        for element in self._partition.rows:
            row: dict[str, Any] = {"element": element}
            for name, *phases, unit in COEFFICIENTS:
                column = Column(name)
                if column not in self._partition.columns:
                    continue
                values = self._partition.values(column)[:, self._partition.rows[element]]
                # A frame whose poor phase lacks the element makes the mean infinite; this must be visible.
                infinite = np.isinf(values).any()
                mean, error, _ = (np.inf, nan, 0) if infinite else self._partition.mean(element, column)
                row[column], row[column.error] = mean, error
                content = Column(str(element), unit)
                rich, poor = (self._phases["phases"].content(phase, content) for phase in phases)
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.float64(rich.mean) / poor.mean
                    pulls = (rich.pulls - ratio * poor.pulls) / poor.mean
                of_means = Column(f"{name} of means")
                row[of_means], row[of_means.error] = float(ratio), block_error(pulls).standard_error
            rows.append(row)
        return Table.of_rows("Partition coefficients", rows)

    def _unit(self, name: str) -> str:
        if name not in FIELD_SPECS:
            return "ps" if name == "time" else ""
        unit = FIELD_SPECS[name].unit
        return self.rule.unit if unit == DENSITY else unit

    def scalar_table(self) -> Table:
        """Return the table `scalars` alone."""
        rows: list[tuple[Any, ...]] = []
        for name in (name for name in self._scalars if name in FIELD_SPECS):
            values = self._series(name)
            if name in ("interface_width", "interface_width_error") and np.isnan(values[self._is_cut]).any():
                values = np.full_like(values, np.nan)  # the frames with a width are not typical
            n_frames = int(np.isfinite(values).sum())
            rows.append((name, FIELD_SPECS[name].title, self._unit(name), *block_error(values), n_frames))
        if rows:
            n = len(self)
            if n > 1:
                title = "Interface width of the mean profile"
                rows.append(("mean_profile_width", title, "Å", *self._mean_profile_width(), np.nan, n))
            known = self._series("n_phases")
            known = known[np.isfinite(known)]
            two = block_error((known == 2).astype(float))
            rows.append(("two_phase_share", "Fraction of frames with two phases", "", *two, len(known)))
        headings = ("name", "title", "unit", MEAN, MEAN.error, "statistical inefficiency", "frames")
        return Table.of_rows("Numbers of the frames", [dict(zip(headings, row, strict=True)) for row in rows])

    def _time_table(self) -> Table:
        columns: dict[str, NDArray[Any]] = {"frame": np.arange(len(self))}
        for name in self._scalars:
            values = self._series(name)
            if name == "atoms" and not np.ptp(values):
                continue
            count = name in ("timestep", "atoms") or (
                name in FIELD_SPECS and FIELD_SPECS[name].kind == "count"
            )
            if count and np.isfinite(values).all():
                values = values.astype(np.int64)
            columns[Column(name, self._unit(name))] = values
        for phase in ("rich", "poor"):
            for element in self._elements:
                column = Column(element, WEIGHT, part=phase)
                columns[column] = self._content_series(column)
        return Table("Time series", {name: v for name, v in columns.items() if np.isfinite(v).any()})

    def _content_series(self, column: Column) -> NDArray[np.float64]:
        """Return the content of a phase in each frame, (n_frames,); 0 before an element appears."""
        others = [name for name in self._contents if _phase(name) == column.part]
        absent = 0.0 * self._contents.floats(others[0]) if others else self._contents.floats(column)
        if column not in self._contents:
            return absent
        first = self._contents.first(column)
        return np.concatenate([absent[:first], self._contents.floats(column)[first:]])

    def _proxigram_table(self) -> Table:
        series = self._proxigram
        if not series.n_frames:
            return Table("Proxigram", {})
        centers = np.array(list(series.rows), dtype=np.float64)
        columns: dict[str, NDArray[Any]] = {DISTANCE: centers}
        for name in (ATOM_COUNT, VOLUME):
            columns[name] = (np.nan_to_num(series.values(name)) * series.weights(name)).sum(
                axis=0
            ) / series.n_frames
        for name in series.columns:
            if name not in columns:
                means = [series.content(center, name) for center in series.rows]
                columns[name], columns[name.error] = np.array([(one.mean, one.error) for one in means]).T
        order = np.argsort(centers)
        return Table("Proxigram", {name: values[order] for name, values in columns.items()})

    def _mean_profile_width(self) -> tuple[float, float]:
        """Width fitted to the mean profile of all frames, Å, and its error by a jackknife of eight blocks.

        Unlike the mean of the widths of individual frames, it is not biased by their noise.
        """
        series = self._proxigram
        names = [
            name for name in (Column(one, NUMBER) for one in self.rule.species) if name in series.columns
        ]
        resolution = self._series("interface_width_resolution")
        if not names or np.isnan(resolution).all():
            return np.nan, np.nan
        places = np.rint(np.array(list(series.rows)) / BIN_WIDTH - 0.5).astype(np.int64) + N_BINS // 2
        volumes, counts = np.zeros((2, len(series), N_BINS))
        volumes[:, places] = np.nan_to_num(series.values(VOLUME)) * series.weights(VOLUME)
        densities = np.nan_to_num(sum(series.values(name) for name in names))
        counts[:, places] = densities * volumes[:, places]
        reach = Kernel(float(np.nan_to_num(self._series("sigma")).max()), nan).reach

        def width(rows: NDArray[np.int64]) -> float:
            found = interface_width(
                counts[rows].sum(axis=0), volumes[rows].sum(axis=0), BIN_WIDTH, reach=reach,
                resolution=lambda *_: float(np.nanmean(resolution)),
            )  # fmt: skip
            return found.width

        everything = np.arange(len(counts))
        blocks = np.array_split(everything, 8)
        if len(blocks[-1]) < 2:
            return width(everything), np.nan
        without = np.array([width(np.setdiff1d(everything, block)) for block in blocks])
        return width(everything), float(np.sqrt(7 / 8 * ((without - without.mean()) ** 2).sum()))


def _phase(heading: str) -> str:
    return heading.split(" ", 1)[0]


def _weight_of_content(column: Column) -> Column | None:
    return CONTENTS.get(column.unit)


def _weight_in_profile(column: Column) -> Column | None:
    """Densities are weighted by volume, contents by atoms."""
    if column in (ATOM_COUNT, VOLUME):
        return None
    return VOLUME if column.unit in (NUMBER, MASS_DENSITY.unit) else ATOM_COUNT


def summarize(
    frames: Iterable[Frame], rule: LabelRule | None = None, *, average: float | None = None, **options: Any
) -> TrajectorySummary:
    """Label all frames of a trajectory and summarize the results.

    frames, rule, average, options : as for `label_trajectory`
    """
    from phaseseg.families.segmentation.labels.automatic import rule_for
    from phaseseg.families.segmentation.labels.weak_labels import label_trajectory, rule_or_options

    fixed, frames = rule_for(frames, rule_or_options(rule, options))
    summary = TrajectorySummary(fixed)
    for frame, fields in label_trajectory(frames, fixed, average=average):
        summary.add(frame, fields)
    return summary


# ------------------------------------------------------------------------------- boundary width


BOUNDARY_WIDTHS = np.arange(0.0, 4.1, 0.34)
"""Boundary widths to compare, Å: multiples of the paper's step of 0.34 Å."""
WIDTH, VARIANCE = Column("boundary width", "Å"), f"{WEIGHT}^2"


class BoundaryScan:
    """Content of the rich phase as a function of the boundary width, frame by frame.

    An atom is rich if its distance to the interface exceeds w/2, so each frame is labeled only once for
    all widths w.

    species : names of the species whose total content is measured
    widths : (n_widths,) float64, Å
    """

    def __init__(self, species: Sequence[str], widths: ArrayLike = BOUNDARY_WIDTHS) -> None:
        self.species = tuple(species)
        self.widths = np.atleast_1d(np.asarray(widths, dtype=np.float64))
        if self.widths.ndim != 1 or not len(self.widths) or not (self.widths >= 0).all():
            raise ValueError(f"widths must be lengths of at least 0 Å, found {np.asarray(widths).tolist()}.")
        self._contents = array("d")

    def add(self, frame: Frame, fields: Fields) -> None:
        """Add a frame; frames without an interface are ignored."""
        if "interface_distance" not in fields:
            return
        distance = np.asarray(fields["interface_distance"], dtype=np.float64)
        inside = distance > 0
        if not inside.any():
            return
        mass = element_masses(frame.species_names)[frame.species[inside]]
        if np.isnan(mass).any():
            raise ValueError(f"not all of {', '.join(frame.species_names)} are elements with a known mass.")
        target = np.where(frame.species_mask(self.species)[inside], mass, 0.0)
        # Mass deeper inside than each half width, accumulated from the innermost atom outward.
        order = np.argsort(-distance[inside])
        deeper = np.searchsorted(-distance[inside][order], -self.widths / 2, side="left")
        total, found = (
            np.concatenate(([0.0], np.cumsum(values[order])))[deeper] for values in (mass, target)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            self._contents.extend(np.where(total > 0, 100 * found / total, np.nan))

    def table(self) -> Table:
        """Return one row per width: mean, standard error, variance, and whether it is the least."""
        contents = np.array(self._contents).reshape(-1, len(self.widths))
        n_frames = np.isfinite(contents).sum(axis=0)
        mean, error, _ = np.array([block_error(column) for column in contents.T]).T
        pairs = zip(contents.T, n_frames, strict=True)
        variance = np.array([np.nanvar(column, ddof=1) if n > 1 else np.nan for column, n in pairs])
        # Widths at which some frames have no rich atoms left are not comparable with the others.
        usable = (n_frames == len(contents)) & np.isfinite(variance)
        best = np.zeros(len(self.widths), dtype=bool)
        best[np.argmin(np.where(usable, variance, np.inf))] = usable.any()
        name = "+".join(self.species)
        content = Column(name, WEIGHT)
        return Table(
            f"Rich phase against the boundary width: {name}",
            {
                WIDTH: self.widths, content: mean, content.error: error,
                Column(f"variance of {name}", VARIANCE): variance, "frames": n_frames, "least variance": best,
            },
        )  # fmt: skip


def boundary_width_scan(
    frames: Iterable[Frame], rule: LabelRule, widths: ArrayLike = BOUNDARY_WIDTHS
) -> Table:
    """Content of the chosen species in the rich phase, and its variance, for each boundary width.

    The paper chooses the width at which the composition of the metal varies least over a trajectory
    (S. Shakya and B. B. Karki, KDIR 2025, Fig. 2, DOI 10.5220/0013709400004000). Each frame is labeled
    once. Single-phase frames are ignored.

    Parameters
    ----------
    frames : the trajectory
    rule : label rule; its `boundary_width` is ignored
    widths : (n_widths,) float64, Å

    Returns
    -------
    Table
        Columns `boundary width (Å)`, `Fe (wt%)`, `Fe (wt%) ±`, `variance of Fe (wt%^2)`, `frames`,
        `least variance`; variances are NaN for fewer than two frames with two phases.

    Raises
    ------
    ValueError
        For widths out of range; also as `label_frame`.
    """
    from phaseseg.families.segmentation.labels.automatic import rule_for
    from phaseseg.families.segmentation.labels.weak_labels import label_frame

    fixed, frames = rule_for(frames, rule)
    scan = BoundaryScan(fixed.species, widths)
    for frame in frames:
        scan.add(frame, label_frame(frame, fixed))
    return scan.table()


def boundary_message(table: Table) -> Message:
    """Return a message with the result of `boundary_width_scan` and its significance."""
    best = best_boundary_width(table)
    if best is None:
        return Message("Too few frames with two phases to choose a boundary width.", "no-boundary-width")
    variance = table.columns[table.values(VARIANCE)[0]]
    n_frames = int(table.columns["frames"][0])
    # The variance of n values has a relative standard error of sqrt(2 / (n - 1)).
    least = np.nanmin(variance[table.columns["least variance"]])
    widths = table.columns[WIDTH][variance <= least * (1 + np.sqrt(2 / (n_frames - 1)))]
    text = f"The content of the rich phase varies least at a boundary width of {best:.2f} Å"
    if len(widths) > 1:
        others = ", ".join(f"{width:.2f}" for width in widths if width != best)
        text += f"; {n_frames} frames cannot distinguish it from {others} Å"
    return Message(f"{text}.", "boundary-width")


def best_boundary_width(table: Table) -> float | None:
    """Return the width (Å) with the least variance in a `boundary_width_scan`, or None."""
    best = np.flatnonzero(table.columns["least variance"])
    return float(table.columns[WIDTH][best[0]]) if len(best) else None
