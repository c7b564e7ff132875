"""Fields: what an analysis gives back, and the registry of the names it may use.

A face (OVITO, ASE, command line) needs nothing else: the level of a field says where it goes
(particle property or array, grid, attribute, table), its kind and classes how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["atom", "bond", "frame", "grid", "table"]
Kind = Literal["class", "probability", "scalar", "count", "flag"]


@dataclass(frozen=True)
class ClassName:
    """One class of a field of kind "class"."""

    id: int
    name: str
    color: tuple[float, float, float]


@dataclass(frozen=True)
class FieldSpec:
    """What one name in a `Fields` means.

    `name` is the snake_case name of arrays, info entries and table columns, `title` the OVITO title. The
    columns of a kind "probability" belong to the first of its classes.
    """

    name: str
    title: str
    unit: str
    level: Level
    kind: Kind
    description: str
    classes: tuple[ClassName, ...] = ()


@dataclass(frozen=True, eq=False)
class Grid:
    """A field on a regular grid of points.

    Point `(i, j, k)` lies at `origin + i/n_x a + j/n_y b + k/n_z c` with `a, b, c` the rows of
    `cell`: endpoint-exclusive, so that a periodic grid holds no plane twice.

    values : (n_x, n_y, n_z) float32
    cell : (3, 3) float64, Å; the domain that the grid spans (the frame's own cell along periodic
        axes; along open axes the atoms with a margin)
    origin : (3,) float64, Å
    pbc : (3,) bool
    """

    values: NDArray[np.float32]
    cell: NDArray[np.float64]
    origin: NDArray[np.float64]
    pbc: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int]:
        n_x, n_y, n_z = self.values.shape
        return n_x, n_y, n_z

    @property
    def steps(self) -> NDArray[np.float64]:
        """(3, 3) float64, Å: vector from a grid point to its next neighbor along each axis (rows)."""
        return np.asarray(self.cell / np.array(self.values.shape, dtype=float)[:, None])

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel, Å^3."""
        return float(abs(np.linalg.det(self.steps)))


@dataclass(frozen=True, eq=False)
class Bonds:
    """Pairs of atoms, each pair once, and what is known of each.

    A bond goes from atom i to the image of atom j that is `shifts @ cell` away from j.

    atoms : (n_bonds, 2) int64; i <= j
    shifts : (n_bonds, 3) int32
    columns : arrays of length n_bonds by name
    """

    atoms: NDArray[np.int64]
    shifts: NDArray[np.int32]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.atoms)


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length; units stand in the column names, as `width (Å)`."""

    title: str
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries of plain Python values."""
        columns = {name: np.asarray(values).tolist() for name, values in self.columns.items()}
        for row in zip(*columns.values(), strict=True):
            yield dict(zip(columns, row, strict=True))


class Fields(Mapping[str, Any]):
    """Result of an analysis of one frame: a mapping from registered names to values.

    Values are arrays of length `n_atoms` (level "atom"), `Bonds` (level "bond"), plain numbers (level
    "frame"), `Grid` (level "grid") or `Table` (level "table"). `messages` holds sentences that a user should
    see.
    """

    def __init__(self, values: Mapping[str, Any], messages: tuple[str, ...] = ()) -> None:
        unknown = [name for name in values if name not in FIELD_SPECS]
        if unknown:
            raise KeyError(f"not in the field registry: {', '.join(unknown)}")
        self._values = dict(values)
        self.messages = messages

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Fields({', '.join(self._values)})"

    def level(self, level: Level) -> dict[str, Any]:
        """The entries of one level, in the order in which they were made."""
        return {name: value for name, value in self._values.items() if FIELD_SPECS[name].level == level}


POOR, RICH, BOUNDARY = 0, 1, 2

PHASE_CLASSES = (
    ClassName(POOR, "poor", (0.27, 0.46, 0.71)),
    ClassName(RICH, "rich", (0.85, 0.47, 0.16)),
    ClassName(BOUNDARY, "boundary", (0.93, 0.86, 0.56)),
)


def _specs(*rows: tuple[str, str, str, Level, Kind, str]) -> dict[str, FieldSpec]:
    return {row[0]: FieldSpec(*row) for row in rows}


FIELD_SPECS: dict[str, FieldSpec] = {
    "phase": FieldSpec(
        "phase",
        "Phase",
        "",
        "atom",
        "class",
        "0 poor, 1 rich in the chosen species, 2 within half the boundary width of the interface",
        PHASE_CLASSES,
    ),
    "phase_probability": FieldSpec(
        "phase_probability",
        "Phase Probability",
        "",
        "atom",
        "probability",
        "probability of poor and rich, and of boundary where the network has learned it",
        PHASE_CLASSES,
    ),
    **_specs(
        (
            "phase_uncertainty",
            "Phase Uncertainty",
            "",
            "atom",
            "scalar",
            "standard deviation of the probability of rich over the networks of a checkpoint",
        ),
        (
            "phase_density",
            "Phase Density",
            "Å^-3 or 1",
            "atom",
            "scalar",
            "smoothed density (or mole fraction) of the chosen species at the atom",
        ),
        (
            "interface_distance",
            "Interface Distance",
            "Å",
            "atom",
            "scalar",
            "signed distance to the interface, positive in the rich phase; NaN where there is none",
        ),
        (
            "domain",
            "Domain",
            "",
            "atom",
            "count",
            "number of the rich domain that the atom lies in, 1 the largest; 0 outside",
        ),
        (
            "density_grid",
            "Phase Density",
            "Å^-3 or 1",
            "grid",
            "scalar",
            "smoothed density (or mole fraction) of the chosen species",
        ),
        (
            "score_grid",
            "Phase Score",
            "Å",
            "grid",
            "scalar",
            "smoothed score of a network: about the distance to the interface, positive in the rich phase",
        ),
        ("n_phases", "Number of phases", "", "frame", "count", "one-phase verdict: 1 or 2"),
        (
            "phase_contrast",
            "Phase contrast",
            "",
            "frame",
            "scalar",
            "difference of the two sides of the cut over counting noise; two phases from 2 on",
        ),
        (
            "probability_threshold",
            "Probability threshold",
            "",
            "frame",
            "scalar",
            "probability from which on an atom is rich",
        ),
        ("score_threshold", "Score threshold", "Å", "frame", "scalar", "score at the probability threshold"),
        (
            "mean_uncertainty",
            "Mean uncertainty",
            "",
            "frame",
            "scalar",
            "mean of the phase uncertainty over the atoms",
        ),
        (
            "outside_training",
            "Outside of the training data",
            "",
            "frame",
            "scalar",
            "share of the atoms beyond the training data, in the feature in which they are most",
        ),
        ("threshold", "Threshold", "Å^-3 or 1", "frame", "scalar", "the cut that was used"),
        (
            "threshold_steepest",
            "Steepest threshold",
            "Å^-3 or 1",
            "frame",
            "scalar",
            "density at which the field is steepest",
        ),
        (
            "threshold_two_means",
            "Two-means threshold",
            "Å^-3 or 1",
            "frame",
            "scalar",
            "cut of exact two-means (Otsu)",
        ),
        ("n_domains", "Number of domains", "", "frame", "count", "rich domains that were kept"),
        (
            "rich_atom_fraction",
            "Rich atom fraction",
            "",
            "frame",
            "scalar",
            "atoms on the rich side of the interface, boundary included, over all atoms",
        ),
        (
            "rich_mass_fraction",
            "Rich mass fraction",
            "",
            "frame",
            "scalar",
            "mass on the rich side of the interface, boundary included, over all mass; NaN without masses",
        ),
        (
            "rich_volume_fraction",
            "Rich volume fraction",
            "",
            "frame",
            "scalar",
            "volume on the rich side of the interface over the volume of the grid",
        ),
        ("interface_area", "Interface area", "Å^2", "frame", "scalar", "area of the interface"),
        (
            "interface_width",
            "Interface width",
            "Å",
            "frame",
            "scalar",
            "10-90 width of the error function fitted to the proxigram of the chosen species",
        ),
        (
            "mass_balance_residual",
            "Mass balance residual",
            "",
            "frame",
            "scalar",
            "largest difference, over the elements, between bulk and the phases of the table put together",
        ),
        (
            "composition",
            "Composition",
            "wt% and at%",
            "table",
            "scalar",
            "composition of each phase and of the bulk of each phase",
        ),
        (
            "partition",
            "Partition coefficients",
            "",
            "table",
            "scalar",
            "content of the rich over that of the poor phase, by weight and by atoms",
        ),
        (
            "domains",
            "Domains",
            "",
            "table",
            "scalar",
            "volume, atoms and percolation of every rich domain that was kept",
        ),
        (
            "proxigram",
            "Proxigram",
            "at%",
            "table",
            "scalar",
            "concentration of every element against the distance to the interface",
        ),
        (
            "graph_id",
            "Graph ID",
            "",
            "atom",
            "count",
            "number of the graph of nearest neighbors around B, 1 the largest; 0 without an edge",
        ),
        ("isolated", "Isolated", "", "atom", "flag", "1 for a particle A without an edge to a B"),
        ("bb_degree", "B-B Degree", "", "atom", "count", "edges between two B at the particle; 0 for A"),
        (
            "glass_bonds",
            "Glass bonds",
            "",
            "bond",
            "scalar",
            "edges between nearest neighbors that touch a B; bb: both ends are B",
        ),
        (
            "n_disjoint_graphs",
            "Number of disjoint graphs",
            "",
            "frame",
            "count",
            "connected graphs with at least one edge",
        ),
        ("n_bb_edges", "Number of B-B edges", "", "frame", "count", "undirected edges between two B"),
        ("n_isolated_a", "Number of isolated A", "", "frame", "count", "particles A without an edge to a B"),
        (
            "disjoint_graphs_per_particle",
            "Disjoint graphs per particle",
            "",
            "frame",
            "scalar",
            "connected graphs over the number of all particles",
        ),
        (
            "bb_edges_per_particle",
            "B-B edges per particle",
            "",
            "frame",
            "scalar",
            "edges between two B over the number of all particles",
        ),
        (
            "isolated_a_per_particle",
            "Isolated A per particle",
            "",
            "frame",
            "scalar",
            "particles A without an edge over the number of all particles",
        ),
        (
            "glass_probability",
            "Glass Probability",
            "",
            "atom",
            "scalar",
            "probability that the surroundings of the particle are those of a glass",
        ),
        (
            "glass_uncertainty",
            "Glass Uncertainty",
            "",
            "atom",
            "scalar",
            "standard deviation of that probability over the networks of a checkpoint",
        ),
        (
            "attention",
            "Attention",
            "",
            "atom",
            "scalar",
            "mean attention of the edges at the particle; 1 is the mean of all edges",
        ),
        (
            "attention_bonds",
            "Attention bonds",
            "",
            "bond",
            "scalar",
            "edges of the graph with their attention; kept: at or above the threshold; bb: both ends are B",
        ),
        (
            "frame_glass_probability",
            "Glass probability of the configuration",
            "",
            "frame",
            "scalar",
            "probability that the whole configuration is a glass",
        ),
        (
            "frame_glass_uncertainty",
            "Glass uncertainty of the configuration",
            "",
            "frame",
            "scalar",
            "standard deviation of that probability over the networks of a checkpoint",
        ),
        (
            "glass_fraction",
            "Glass fraction",
            "",
            "frame",
            "scalar",
            "share of the particles whose glass probability is at or above the threshold",
        ),
        (
            "attention_threshold",
            "Attention threshold",
            "",
            "frame",
            "scalar",
            "attention from which on an edge is kept: the trough of the distribution",
        ),
        (
            "attention_n_disjoint_graphs",
            "Number of attention graphs",
            "",
            "frame",
            "count",
            "connected graphs of the edges that are kept",
        ),
        (
            "attention_n_bb_edges",
            "Number of B-B attention edges",
            "",
            "frame",
            "count",
            "kept edges between two B",
        ),
        (
            "attention_n_isolated_a",
            "Number of A without attention",
            "",
            "frame",
            "count",
            "particles A without a kept edge",
        ),
    ),
}
