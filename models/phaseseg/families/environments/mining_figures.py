"""Figures of what was found in a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.audit import SUSPICIOUS
from phaseseg.families.environments.dataset import DataSet
from phaseseg.families.environments.fields import color_of
from phaseseg.families.environments.mining import Mined
from phaseseg.families.environments.mining_tables import label_scores, strange_atoms
from phaseseg.families.environments.outliers import STRANGE
from phaseseg.frame import Frame
from phaseseg.report import GRAY, INK, as_label, styled
from phaseseg.specs import SCALAR_MAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

Doubles = NDArray[np.float64]

MOST_DRAWN = 20_000
"""Points in a map; of larger sets, a random sample and the outliers."""
MOST_GROUPS = 20
RADIUS = 4.5
"""Radius of a drawn environment, Å."""
# Seen from a little above, and turned, so that rows of atoms do not hide each other.
_VIEW = np.array([[0.87, 0.5, 0.0], [-0.17, 0.3, 0.94], [0.47, -0.81, 0.35]])


def palette(n: int) -> NDArray[Any]:
    """(n, 4) colors that differ from their neighbors; they repeat after 20."""
    import matplotlib as mpl

    strong_first = np.array([*range(0, 20, 2), *range(1, 20, 2)])
    return np.asarray(mpl.colormaps["tab20"](strong_first[np.arange(n) % 20]))


# The map -------------------------------------------------------------------------------------------


def drawn_atoms(mined: Mined, seed: int = 0) -> NDArray[np.int64]:
    """Numbers of the atoms that are drawn."""
    n = mined.data.n_atoms
    if n <= MOST_DRAWN:
        return np.arange(n)
    some = np.random.default_rng(seed).choice(n, MOST_DRAWN, replace=False)
    first = strange_atoms(mined) if mined.scores is not None else np.zeros(0, dtype=np.int64)
    return np.union1d(some, first)


@styled
def map_figure(mined: Mined, points: Doubles, atoms: NDArray[np.int64], axes: tuple[str, str]) -> Figure:
    """Draw the atoms at `points` (n, 2), colored by cluster, by group and by error or outlier score."""
    from matplotlib.figure import Figure

    panels = [draw for draw, there in (
        (_by_cluster, mined.labels is not None), (_by_group, mined.data.groups is not None),
        (_by_error, mined.audit is not None and mined.data.forces is not None),
        (_by_score, mined.scores is not None), (_by_subset, mined.pruned is not None),
    ) if there][:4] or [_by_species]  # fmt: skip
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.7 * rows), layout="constrained")
    for place, draw in zip(figure.subplots(rows, columns, squeeze=False).ravel(), panels, strict=False):
        draw(place, mined, points, atoms)
        place.set(xlabel=axes[0], ylabel=axes[1], xticks=[], yticks=[])
    for place in figure.axes[len(panels) : rows * columns]:
        place.remove()
    return figure


def _scatter(place: Axes, points: Doubles, **style: Any) -> Any:
    return place.scatter(points[:, 0], points[:, 1], s=5, linewidths=0, rasterized=True, **style)


_BOX = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}


def _middle(points: Doubles) -> tuple[float, float]:
    """The point that is nearest to the median of all."""
    away = np.square(points - np.median(points, axis=0)).sum(axis=1)
    x, y = points[np.argmin(away)].tolist()
    return x, y


def _by_names(
    place: Axes, points: Doubles, names: NDArray[Any], title: str, order: Sequence[Any], colors: Any = None
) -> None:
    colors = palette(len(order)) if colors is None else colors
    for k, (name, color) in enumerate(zip(order[:MOST_GROUPS], colors, strict=False)):
        number = "" if isinstance(name, int) else f"{k + 1} "
        _scatter(place, points[names == name], color=color, label=number + as_label(str(name)))
    if len(order) > MOST_GROUPS:
        rest = ~np.isin(names, order[:MOST_GROUPS])
        _scatter(place, points[rest], color=GRAY, label=f"{len(order) - MOST_GROUPS} more", zorder=0.5)
    # Numbers in the map and in the legend, because nobody can tell this many colors apart.
    for k, name in enumerate(order[:MOST_GROUPS]):
        if (mine := points[names == name]).size:
            text = str(name) if isinstance(name, int) else str(k + 1)
            place.annotate(text, _middle(mine), fontsize=7, ha="center", va="center", bbox=_BOX)
    place.set_title(title)
    place.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=3, fontsize=7, handletextpad=0.1,
        ncols=1 + (len(order) > 14), columnspacing=0.6,
    )  # fmt: skip


def _by_cluster(place: Axes, mined: Mined, points: Doubles, atoms: NDArray[np.int64]) -> None:
    assert mined.labels is not None
    labels = mined.labels[atoms]
    alone = labels < 0
    if alone.any():
        _scatter(place, points[alone], color=color_of(-1), label="none", zorder=0.5)
    order = [k for k in np.unique(mined.labels).tolist() if k >= 0]
    _by_names(place, points[~alone], labels[~alone], "cluster", order, [color_of(k) for k in order])


def _by_group(place: Axes, mined: Mined, points: Doubles, atoms: NDArray[np.int64]) -> None:
    assert mined.data.groups is not None
    names = mined.data.groups[mined.data.configurations[atoms]]
    kinds, counts = np.unique(names, return_counts=True)
    # Alphabetic, so that groups of one kind stand together; the largest ones if there are too many.
    kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_GROUPS])
    order = [*kinds[kept].tolist(), *np.delete(kinds, kept).tolist()]
    _by_names(place, points, names, "group", order)


def _by_species(place: Axes, mined: Mined, points: Doubles, atoms: NDArray[np.int64]) -> None:
    from phaseseg.families.environments.mining_tables import species_of

    _by_names(place, points, species_of(mined.data)[atoms], "species", list(mined.data.species))


def _by_value(place: Axes, points: Doubles, values: Doubles, title: str, label: str) -> None:
    from matplotlib.colors import LogNorm

    low, middle, high = np.quantile(values, [0.02, 0.5, 0.999])
    high = min(high, 1e3 * middle) if middle > 0 else high  # a gross error does not take all colors
    low, high = (max(low, 1e-3 * high), high) if high > 0 else (0.1, 1.0)
    order = np.argsort(values, kind="stable")  # the largest are drawn last
    norm = LogNorm(low, max(high, 1.01 * low), clip=True)
    drawn = _scatter(place, points[order], c=np.maximum(values[order], low), cmap=SCALAR_MAP, norm=norm)
    bar = place.figure.colorbar(drawn, ax=place, label=label, pad=0.02, format="%g")
    bar.set_ticks(_locator(high / low))
    bar.ax.minorticks_off()
    place.set_title(title)


def _locator(ratio: float) -> Locator:
    """Ticks of a logarithmic axis: 1, 2, 5, ... or, over many decades, some powers of ten."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0)) if ratio < 2e3 else LogLocator(numticks=6)


def _by_error(place: Axes, mined: Mined, points: Doubles, atoms: NDArray[np.int64]) -> None:
    assert mined.audit is not None
    residuals = np.asarray(mined.audit.force_residuals)[atoms]
    _by_value(place, points, residuals, "force against a robust fit", "residual (eV/Å)")


def _by_score(place: Axes, mined: Mined, points: Doubles, atoms: NDArray[np.int64]) -> None:
    assert mined.scores is not None
    _by_value(place, points, mined.scores[atoms], "structural outlier score", "score")


def _by_subset(place: Axes, mined: Mined, points: Doubles, atoms: NDArray[np.int64]) -> None:
    assert mined.pruned is not None
    inside = mined.pruned.mask[atoms]
    _scatter(place, points[~inside], color="#d5d5d5", label="left out")
    _scatter(place, points[inside], color="#c1272d", label="in the subset")
    place.set_title("subset")
    place.legend(markerscale=3)


def umap_points(rows: Doubles, seed: int = 0) -> Doubles | None:
    """(n, 2) coordinates of UMAP of the leading principal components; None if umap-learn is not installed.

    McInnes, Healy, Melville, arXiv:1802.03426.
    """
    try:
        import umap
    except ImportError:
        return None
    from phaseseg.families.environments.projection import fit_projection

    points = fit_projection(rows, 12)(rows)
    if len(points) < 16:
        return None
    return np.asarray(umap.UMAP(random_state=seed, n_jobs=1).fit_transform(points), dtype=np.float64)


# Environments --------------------------------------------------------------------------------------


def neighborhood(frame: Frame, atom: int, radius: float) -> tuple[Doubles, NDArray[np.int64]]:
    """Return the atoms within a radius of an atom, periodic images included, the atom itself first.

    Returns
    -------
    (n, 3) vectors from the atom, Å, and (n,) rows of the atoms
    """
    inverse = np.linalg.inv(frame.cell)
    reach = np.where(frame.pbc, np.ceil(radius * np.linalg.norm(inverse, axis=0)) + 1, 0).astype(int)
    fractional = (frame.positions - frame.positions[atom]) @ inverse
    fractional -= np.floor(fractional) * frame.pbc
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    apart = (fractional[None] + steps[:, None]) @ frame.cell
    lengths = np.linalg.norm(apart, axis=2)
    _, row = np.nonzero(lengths <= radius)
    found, lengths = apart[lengths <= radius], lengths[lengths <= radius]
    order = np.argsort(lengths, kind="stable")
    return found[order], row[order].astype(np.int64)


def draw_environment(place: Axes, frame: Frame, atom: int, radius: float = RADIUS) -> None:
    """Draw an atom and its neighbors as balls, and a red rim around the atom itself.

    The second species has a dot and the third a ring, for readers without color.
    """
    from ase.data import atomic_numbers, covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.patches import Circle

    vectors, rows = neighborhood(frame, atom, radius)
    names = [frame.species_names[frame.species[row]] for row in rows.tolist()]
    numbers = [atomic_numbers.get(name, 0) for name in names]
    seen = vectors @ _VIEW.T  # right, up, towards the eye
    for k in np.argsort(seen[:, 2], kind="stable").tolist():
        depth = 0.5 + 0.5 * seen[k, 2] / radius
        color = np.array(jmol_colors[numbers[k]]) * (0.35 + 0.65 * depth) + 0.65 * (1 - depth)
        size = 0.75 * covalent_radii[numbers[k]] * (0.85 + 0.3 * depth)
        place.add_patch(
            Circle(seen[k, :2], size, facecolor=np.clip(color, 0, 1), edgecolor=INK, linewidth=0.4)
        )
        if (rank := int(frame.species[rows[k]])) in (1, 2):
            face = INK if rank == 1 else "none"
            place.add_patch(Circle(seen[k, :2], 0.2 * size, facecolor=face, edgecolor=INK, linewidth=0.4))
    # The rim of the atom itself stands before everything: its neighbors may hide it.
    size = 0.75 * covalent_radii[numbers[0]]
    place.add_patch(Circle((0, 0), size, facecolor="none", edgecolor="#c1272d", linewidth=1.6))
    place.set(xlim=(-radius - 1, radius + 1), ylim=(-radius - 1, radius + 1), aspect="equal")
    place.axis("off")


@styled
def environment_figure(frame: Frame, atom: int) -> Figure:
    """Draw one environment, as small as it stands in a table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.1, 1.1))
    draw_environment(figure.add_axes((0.0, 0.0, 1.0, 1.0)), frame, atom)
    return figure


# Curves and residuals ------------------------------------------------------------------------------


@styled
def coverage_figure(mined: Mined) -> Figure:
    """Draw the mean distance of all environments to the subset against the budget."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    found = mined.pruned
    assert found is not None
    inner = found.budgets < 1
    budgets = 100 * found.budgets[inner]
    mean, spread = found.random[:, inner].mean(axis=0), found.random[:, inner].std(axis=0, ddof=1)
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    place = figure.subplots()
    place.fill_between(
        budgets, np.maximum(mean - spread, 1e-3 * mean), mean + spread, color=GRAY, alpha=0.3, lw=0
    )
    place.plot(budgets, mean, color=GRAY, marker="o", ms=4, label="random subsets")
    place.plot(
        budgets,
        found.distances[inner],
        color="#1f77b4",
        marker="s",
        ls="--",
        ms=4,
        label=str(mined.settings["selection"]),
    )
    place.axvline(100 * found.budget, color=INK, lw=0.8, ls=":")
    place.set(xscale="log", xlabel="budget (% of the atoms)", ylabel="mean distance to the subset")
    if found.distances[inner].any() or mean.any():
        place.set_yscale("log")
    place.set_xticks(budgets)
    place.xaxis.set_major_formatter(ScalarFormatter())
    place.xaxis.set_minor_locator(place.xaxis.get_major_locator())
    place.legend()
    return figure


@styled
def scores_figure(mined: Mined) -> Figure:
    """Draw the distribution of the outlier scores, and the highest score of each configuration by group."""
    from matplotlib.figure import Figure

    assert mined.scores is not None
    data = mined.data
    best = mined.highest_scores
    figure = Figure(figsize=(5.6, 0.9 + 0.2 * _n_groups(data)), layout="constrained")
    _strips(figure.subplots(), data, best, best >= mined.outlier_limits)
    place = figure.axes[0]
    place.axvline(STRANGE, color=INK, lw=0.8, ls=":")
    place.set_xlabel("highest outlier score of a configuration")
    return figure


@styled
def labels_figure(mined: Mined) -> Figure:
    """Draw the scores of energies and forces of every configuration by group."""
    from matplotlib.figure import Figure

    scores = label_scores(mined)
    figure = Figure(figsize=(4.4 * len(scores), 0.9 + 0.2 * _n_groups(mined.data)), layout="constrained")
    places = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    for place, (what, values) in zip(places, scores.items(), strict=True):
        _strips(place, mined.data, np.maximum(values, 0.1), values > SUSPICIOUS)
        place.axvline(SUSPICIOUS, color=INK, lw=0.8, ls=":")
        place.set_xlabel(f"score of the {what}")
    return figure


@styled
def new_figure(mined: Mined) -> Figure:
    """Draw the largest distance of each configuration of the other set from this set, by group."""
    from matplotlib.figure import Figure

    other, found = mined.other, mined.comparison
    assert other is not None and found is not None
    best = np.maximum.reduceat(found.coverage.distances, other.starts[:-1])
    figure = Figure(figsize=(5.6, 0.9 + 0.2 * _n_groups(other)), layout="constrained")
    place = figure.subplots()
    _strips(place, other, np.maximum(best, 1e-3), best > 1)
    place.axvline(1, color=INK, lw=0.8, ls=":")
    place.set_xlabel("largest distance of a configuration")
    return figure


def _n_groups(data: DataSet) -> int:
    return 1 if data.groups is None else min(len(np.unique(data.groups)), MOST_GROUPS)


def _strips(place: Axes, data: DataSet, values: Doubles, marked: NDArray[np.bool_]) -> None:
    """One row of points for each group; the marked ones are red crosses."""
    names = np.array(["all"] * len(data)) if data.groups is None else data.groups
    kinds = np.unique(names).tolist()
    if len(kinds) > MOST_GROUPS:
        best = {kind: float(values[names == kind].max()) for kind in kinds}
        kept = sorted(kinds, key=lambda kind: -best[kind])[: MOST_GROUPS - 1]
        names = np.where(np.isin(names, kept), names, f"{len(kinds) - len(kept)} more groups")
        kinds = np.unique(names).tolist()
    height = np.array([kinds.index(name) for name in names.tolist()])
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
    usual: dict[str, Any] = {"color": "#5b8db8", "s": 9, "linewidths": 0, "alpha": 0.8}
    crosses: dict[str, Any] = {"color": "#c1272d", "s": 14, "linewidths": 0.9, "marker": "x"}
    for which, look in ((~marked, usual), (marked, crosses)):
        place.scatter(values[which], height[which] + jitter[which], **look)
    place.set_yticks(range(len(kinds)), [as_label(kind) for kind in kinds])
    place.set_ylim(len(kinds) - 0.5, -0.5)
    place.set_xscale("log")
    place.xaxis.set_major_locator(_locator(values.max() / values.min()))
    place.xaxis.set_major_formatter("{x:g}")
    place.minorticks_off()
