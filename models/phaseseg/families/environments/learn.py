"""From frames to a checkpoint that holds a descriptor and fitted clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.display import Message, plural
from phaseseg.families import Progress
from phaseseg.families.environments.clusters import TOLERANCE, Clusters, cluster
from phaseseg.families.environments.contrast import METHOD as CONTRAST
from phaseseg.families.environments.dataset import Descriptor
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.exact import to_parts
from phaseseg.families.environments.meagraph import DEFAULT, check_descriptor
from phaseseg.families.environments.outliers import COMPONENTS, sampled_outliers
from phaseseg.families.environments.rules import POWER_SPECTRUM, EnvironmentsRule, check_units, kind_of_rows
from phaseseg.families.environments.sources import ArrayRows, FileRows, all_rows
from phaseseg.frame import Frame

Doubles = NDArray[np.float64]
AnyDescriptor = PowerSpectrum | ArrayRows | FileRows

MOST_ATOMS = 100_000
"""Atoms that clusters are fitted on; of more, a random sample."""
MOST_REFERENCES = 20_000
"""Atoms that outlier scores compare with; of more, a random sample."""
MANY_SPECIES, ALL_COMPONENTS = 5, 3 * COMPONENTS
"""With at least this many species, outlier scores compare the density of all neighbors. The second number is
that of the principal components in which they do so."""
MOST_NUMBERS = 16_000_000
"""Features times atoms in memory during a fit."""
FAMILIAR = 0.99
"""Share of the atoms of the fit within the distance up to which an environment is familiar."""
_DESCRIPTOR_SHARE = 0.6  # of the time of a fit


def fit_environments(
    frames: Iterable[Frame], *, name: str = "environments/mine-v1", progress: Progress | None = None,
    **options: Any,
) -> Checkpoint:  # fmt: skip
    """Find the clusters of the environments of all frames, for use as a checkpoint.

    Parameters
    ----------
    frames : in Å; the species of all frames become those of the descriptor
    name : of the checkpoint
    options : those of `phaseseg.predict` with the checkpoint "environments/mixture-v1"

    Returns
    -------
    Checkpoint
        With the descriptor, the projection on principal components and the clusters. Save it with
        `phaseseg.save_checkpoint` and use it like any other.

    Raises
    ------
    ValueError
        For fewer than two atoms, reduced units, options out of range, descriptors that do not fit the frames
        or the network of the method "meagraph".

    >>> from phaseseg.testing import AWKWARD
    >>> checkpoint = fit_environments([AWKWARD["orthogonal"]()], method="kmeans", n_clusters=3)
    >>> checkpoint.config["clusters"]["method"], len(checkpoint.config["shares"])
    ('kmeans', 3)
    """
    return learn(list(frames), EnvironmentsRule(**options), name, progress=progress)[0]


def learn(
    frames: Sequence[Frame], rule: EnvironmentsRule, name: str, *,
    descriptor: AnyDescriptor | None = None, network: Checkpoint | None = None,
    progress: Progress | None = None,
) -> tuple[Checkpoint, AnyDescriptor]:  # fmt: skip
    """Return the checkpoint, and the descriptor with the rows of its file matched to the frames.

    descriptor : instead of that of the rule
    network : for the method "meagraph", the default one if left out; or an embedding for the other methods
    """
    note = progress or (lambda done, text: None)
    n_atoms = sum(len(frame) for frame in frames)
    if n_atoms < 2:
        raise ValueError(
            f"clusters of environments need at least two atoms, found {n_atoms}; give more frames, or a "
            "checkpoint that is fitted already."
        )
    for frame in frames:
        check_units(frame.units, frame.error_prefix)
    if descriptor is None:
        descriptor = descriptor_for(rule, frames)
    if rule.method == "meagraph":
        check_descriptor(network or DEFAULT, described(descriptor))
    rows, of = _sampled(
        descriptor, frames, rule.seed, lambda done, text: note(_DESCRIPTOR_SHARE * done, text)
    )
    note(_DESCRIPTOR_SHARE, f"clustering {len(rows):,} environments")
    clusters = found_clusters(rows, rule, network)
    note(0.85, f"{clusters.n_clusters:,} clusters; comparing environments of {len(frames):,} frames")
    found = packed(
        clusters, descriptor, rows, of, frames, options=options_of(rule), name=name, seed=rule.seed
    )
    note(1.0, "fitted")
    return found, descriptor


def packed(
    clusters: Clusters, descriptor: AnyDescriptor, rows: Doubles, of: NDArray[np.int64],
    frames: Sequence[Frame], *, options: Mapping[str, Any] | None = None,
    name: str = "environments/mine-v1", seed: int = 0,
) -> Checkpoint:  # fmt: skip
    """Return a checkpoint with clusters and what a prediction needs besides.

    clusters : fitted to `rows`
    rows, of : (n_atoms, n_features) descriptors of the atoms of the frames, or of some of them, and
        (n_atoms,) the numbers of their frames
    options : of the fit, as in `EnvironmentsRule`
    """
    labels = clusters.assign(rows)
    counts = np.bincount(labels[labels >= 0], minlength=clusters.n_clusters)
    settings, weights = clusters.to_parts()
    weights["atoms"] = np.array([len(rows)], dtype=np.float32)
    compared, n_components = compared_rows(descriptor, rows, COMPONENTS)
    known = sampled_outliers(compared, of, MOST_REFERENCES, [seed, 1], n_components=n_components)
    for key, values in known.arrays().items():
        weights[f"outliers.{key}"] = to_parts(values, key)
    n_atoms = sum(len(frame) for frame in frames)
    config = {
        "clusters": settings, "descriptor": described(descriptor), "options": dict(options or {}),
        "shares": (counts / len(rows)).tolist(), "familiar": familiar_distance(clusters, rows, labels),
        "n_atoms": n_atoms, "n_fitted": len(rows),
    }  # fmt: skip
    card = _card(clusters, descriptor, frames, len(rows), n_atoms)
    return Checkpoint("environments", name, config, weights, card, frames[0].units)


def found_clusters(rows: Doubles, rule: EnvironmentsRule, network: Checkpoint | None = None) -> Clusters:
    """The clusters of rows by the method of a rule; see `learn`."""
    options = rule.method_options()
    if network is not None and network.config.get("method") == CONTRAST:
        options["embedding"] = network
    elif rule.method == "meagraph" and network is not None:
        options["network"] = network
    return cluster(rows, rule.method, n_components=rule.n_components, seed=rule.seed, **options)


def compared_rows(descriptor: Any, rows: Doubles, n_components: int) -> tuple[Doubles, int]:
    """Return what outlier scores compare, and in how many principal components.

    With many species, most features describe which species are near, and they hide a displaced atom. The
    density of all neighbors, whatever their species, then takes their place.

    n_components : with few species, or another descriptor than a power spectrum
    """
    if isinstance(descriptor, PowerSpectrum) and len(descriptor.species) >= MANY_SPECIES:
        return descriptor.of_all_neighbors(rows), ALL_COMPONENTS
    return rows, n_components


def without_species(descriptor: Any) -> Message:
    """The message that outlier scores compare the density of all neighbors."""
    return Message(
        f"With {len(descriptor.species)} species, outlier scores compare the places of the neighbors, and "
        "not their species.",
        "outliers-all-species",
    )


def without_neighbors(n: int, descriptor: PowerSpectrum, where: str = "") -> Message:
    """The message that n atoms have no neighbor; where : more about them."""
    text = (
        f"{plural(n, 'atom')}{where} {'has' if n == 1 else 'have'} no neighbor within {descriptor.cutoff:g} Å"
    )
    return Message(f"{text}; such environments of one species are equal.", "without-neighbors")


def descriptor_for(rule: EnvironmentsRule, frames: Sequence[Frame]) -> AnyDescriptor:
    """The descriptor that a rule asks for, with the species of the frames."""
    kind, name = kind_of_rows(rule.descriptor)
    if kind == "array":
        return ArrayRows(name)
    if kind == "file":
        return FileRows(name).begin(frames)
    species = sorted({frame.species_names[code] for frame in frames for code in np.unique(frame.species)})
    return PowerSpectrum(tuple(species), cutoff=rule.cutoff, n_max=rule.n_max, l_max=rule.l_max)


def described(descriptor: Descriptor) -> dict[str, Any]:
    """Settings of a descriptor for a checkpoint; of a file or a function only that it was one."""
    if isinstance(descriptor, PowerSpectrum):
        return {"kind": POWER_SPECTRUM, **asdict(descriptor)}
    return (
        {"kind": "array", "name": descriptor.name} if isinstance(descriptor, ArrayRows) else {"kind": "file"}
    )


def descriptor_from(settings: Mapping[str, Any]) -> PowerSpectrum | ArrayRows | None:
    """The inverse of `described`; None for a file. KeyError, TypeError or ValueError for damaged settings."""
    kind = settings["kind"]
    if kind == POWER_SPECTRUM:
        names = [one.name for one in fields(PowerSpectrum)]
        if unknown := sorted(set(settings) - {"kind", *names}):
            raise ValueError(f"a power spectrum has no setting {', '.join(unknown)}")
        values = {name: settings[name] for name in names}
        if not isinstance(values["species"], list) or not all(isinstance(s, str) for s in values["species"]):
            raise ValueError("the species must be names")
        for name in ("cutoff", "width", "taper"):
            number = values[name]
            if isinstance(number, bool) or not isinstance(number, int | float) or not 1e-3 < number < 1e3:
                raise ValueError(f"{name} must be a length in Å, found {number!r:.60}")
        return PowerSpectrum(**values)
    if kind == "array":
        return ArrayRows(str(settings["name"]))
    if kind != "file":
        raise ValueError(f"there is no descriptor {kind!r:.60}")
    return None


def options_of(rule: EnvironmentsRule) -> dict[str, Any]:
    """The options of the fit, for a checkpoint."""
    kept = {name: value for name, value in rule.to_dict().items() if name not in ("model", "descriptor")}
    return {name: value for name, value in kept.items() if value is not None}


def familiar_distance(clusters: Clusters, rows: Doubles, labels: NDArray[np.int64]) -> float:
    """Distance within which 99 % of the atoms of the fit are.

    Of the methods that keep all environments it is the distance to the nearest other environment: each one
    has the distance 0 from itself.
    """
    if clusters.method in ("mixture", "kmeans"):
        found = clusters.distances(rows, labels)
    else:
        points = clusters.arrays["points"]
        if len(points) < 2:
            return 0.0
        found = clusters.index.search(1)[1].ravel()
    return float(np.quantile(found, FAMILIAR)) + TOLERANCE


def _sampled(
    descriptor: AnyDescriptor, frames: Sequence[Frame], seed: int, note: Progress
) -> tuple[Doubles, NDArray[np.int64]]:
    """(n, n_features) descriptors of all atoms, or of a sample that fits in memory, and (n,) their frames."""
    n_atoms = sum(len(frame) for frame in frames)
    starts = np.cumsum([0, *(len(frame) for frame in frames)])
    chosen: NDArray[np.bool_] | None = None
    parts, places, done = [], [], 0
    for number, atoms, rows in all_rows(descriptor, frames):
        if chosen is None:
            most = min(MOST_ATOMS, max(MOST_NUMBERS // rows.shape[1], 1000))
            chosen = np.ones(n_atoms, dtype=bool)
            if n_atoms > most:
                drawn = np.random.default_rng([seed, n_atoms]).choice(n_atoms, most, replace=False)
                chosen[:] = False
                chosen[drawn] = True
        kept = chosen[starts[number] + atoms]
        parts.append(rows[kept] if not kept.all() else rows)
        places.append(starts[number] + atoms[kept])
        done += len(rows)
        note(done / n_atoms, f"described {done:,} of {n_atoms:,} atoms")
    place = np.concatenate(places)
    order = np.argsort(place)  # layers of a frame are out of order
    found = np.concatenate(parts)
    if (np.diff(place) < 0).any():
        found = found[order]
    return found, np.searchsorted(starts, place[order], "right") - 1


def _card(
    clusters: Clusters, descriptor: AnyDescriptor, frames: Sequence[Frame], n_rows: int, n_atoms: int
) -> dict[str, Any]:
    names = sorted({frame.species_names[code] for frame in frames for code in np.unique(frame.species)})
    sample = "" if n_rows == n_atoms else f", a random sample of {n_rows:,} of them"
    sources = sorted({frame.source.partition(", frame")[0] for frame in frames if frame.source})
    what = described(descriptor)
    return {
        "summary": f"{clusters.n_clusters:,} clusters of environments of {', '.join(names)} by "
        f"{clusters.method}.",
        "data": f"{n_atoms:,} atoms of {len(frames):,} frames{sample}"
        + (f" ({', '.join(sources[:5])}{', ...' if len(sources) > 5 else ''})." if sources else "."),
        "split": "None: the clusters describe these data.",
        "training": f"Method {clusters.method} on {clusters.projection.axes.shape[1]} principal components, "
        f"which explain {clusters.projection.explained.sum():.1%} of the variance; {what['kind']}.",
        "metrics": {str(n): score for n, score in clusters.scores.items()},
        "limits": "Environments unlike those of the data get the label of the nearest cluster; their "
        "distance says so.",
    }
