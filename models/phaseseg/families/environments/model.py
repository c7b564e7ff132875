"""EnvironmentsModel: from a frame to the cluster of the environment of every atom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields as fields_of
from functools import cached_property
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from phaseseg.checkpoint import Checkpoint
from phaseseg.display import plural
from phaseseg.families import Part, Progress
from phaseseg.families.environments.clusters import LARGEST, Clusters, clusters_from, outside_words
from phaseseg.families.environments.contrast import METHOD as CONTRAST, Contrast
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.exact import from_parts, whole
from phaseseg.families.environments.learn import (
    AnyDescriptor,
    compared_rows,
    descriptor_from,
    learn,
    without_neighbors,
    without_species,
)
from phaseseg.families.environments.meagraph import Meagraph
from phaseseg.families.environments.outliers import OutlierModel
from phaseseg.families.environments.parts import parts_of_rows
from phaseseg.families.environments.rules import EnvironmentsRule, check_units, kind_of_rows
from phaseseg.families.environments.sources import ArrayRows, FileRows
from phaseseg.fields import Fields, Message, Table
from phaseseg.frame import Frame
from phaseseg.nn.device import Device, device_kind
from phaseseg.nn.model import NetworkModel

_OF_DESCRIPTOR = ("descriptor", "cutoff", "n_max", "l_max")
COPY = 1e-6
"""Environments closer than this in the space of outlier scores are copies."""
STEP = 20_000
"""Atoms that are assigned at once."""


@dataclass(frozen=True, eq=False)
class EnvironmentsOutput:
    """What is known of a frame.

    labels : (n_atoms,) int32; number of the cluster, -1 for none
    distances : (n_atoms,) float32, see the field `environment_distance`
    scores : (n_atoms,) float32, see the field `outlier_score`; None if the checkpoint has no references
    outside : (n_atoms,) whether the environment is outside of the training of the network, see `Clusters`
    alone : (n_atoms,) whether the atom has no neighbor; known for power spectra, False for others
    """

    labels: NDArray[np.int32]
    distances: NDArray[np.float32]
    scores: NDArray[np.float32] | None
    outside: NDArray[np.bool_]
    alone: NDArray[np.bool_]


class EnvironmentsModel(NetworkModel):
    """Clusters of environments: those of the checkpoint, or found in the frames that it is used on.

    fitted : whether there are clusters; a checkpoint without them has only the settings of a fit
    clusters : Clusters, or None; the other attributes are those of `NetworkModel`
    """

    family = "environments"
    rule_type = EnvironmentsRule
    members_needed = False

    def _read(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        self._options = dict(config.get("options", {}))
        if unknown := sorted(set(self._options) - {one.name for one in fields_of(EnvironmentsRule)}):
            raise ValueError(f"there is no option {', '.join(unknown)}")
        EnvironmentsRule(**self._options)
        self.fitted = config.get("clusters") is not None
        self.clusters: Clusters | None = None
        self.descriptor: AnyDescriptor | None = None
        self.outliers: OutlierModel | None = None
        if not self.fitted:
            if config.get("method") == CONTRAST:  # an embedding of its own descriptor
                self.descriptor = descriptor_from(config["descriptor"])
                self._use_descriptor()
                n = Contrast.of(checkpoint).n_features
                if (expected := getattr(self.descriptor, "n_features", n)) != n:
                    raise ValueError(f"the embedding reads {n} features, the descriptor has {expected}")
            if config.get("method") == "meagraph":  # a network, for its own descriptor
                scale = Meagraph.of(checkpoint).scale or {}
                if not all(norms.ndim == 1 and len(norms) > 1 for norms in scale.values()):
                    raise ValueError("the scale of the network is damaged")
                self._options["method"] = "meagraph"
                self.descriptor = descriptor_from(config["descriptor"])
                self._use_descriptor()
            return
        self.clusters = clusters_from(config["clusters"], checkpoint.weights)
        self._options["method"] = self.clusters.method
        # Clusters saved without frames know nothing of their descriptor.
        self.descriptor = descriptor_from(config.get("descriptor") or {"kind": "file"})
        self._use_descriptor()
        n = self.clusters.n_features
        if (expected := getattr(self.descriptor, "n_features", n)) != n:
            raise ValueError(f"the clusters were fitted on {n} features, the descriptor has {expected}")
        self.outliers = outliers_from(checkpoint.weights)
        width = n if self.outliers is None else len(self.outliers.scale.center)
        self._all_neighbors = width != n
        if self._all_neighbors and compared_rows(self.descriptor, np.zeros((1, n)), 1)[0].shape[1] != width:
            raise ValueError(f"outlier scores compare {width} features, and the clusters have {n}")
        shares = [float(share) for share in config.get("shares", [])]
        if shares and (len(shares) != self.clusters.n_clusters or not all(0 <= s <= 1 for s in shares)):
            raise ValueError("there must be a share from 0 to 1 for each cluster")
        self.shares = np.array(shares or [np.nan] * self.clusters.n_clusters)
        familiar = config.get("familiar")
        self.familiar = inf if familiar is None else float(familiar)
        if not (0 <= self.familiar < LARGEST or familiar is None):
            raise ValueError(f"the familiar distance cannot be {familiar}")

    @cached_property
    def references(self) -> cKDTree:
        """Search tree of the references of outlier scores."""
        assert self.outliers is not None
        return cKDTree(self.outliers.points)

    def _use_descriptor(self) -> None:
        """Make the settings of the descriptor the defaults of the options."""
        self._options["descriptor"] = "array:descriptor"
        if isinstance(self.descriptor, ArrayRows):
            self._options["descriptor"] = f"array:{self.descriptor.name}"
        elif self.descriptor is not None:
            names = ("cutoff", "n_max", "l_max")
            self._options |= {name: getattr(self.descriptor, name) for name in names}
            del self._options["descriptor"]

    def _make(self, kind: str) -> Any:
        return self

    # Options --------------------------------------------------------------------------------------

    @property
    def halo(self) -> float:
        """Cutoff of the descriptor; an array needs no neighbors, the rows of a file need whole frames."""
        if isinstance(self.descriptor, ArrayRows):
            return 0.0
        return (
            inf
            if self.descriptor is None or isinstance(self.descriptor, FileRows)
            else self.descriptor.cutoff
        )

    def _defaults(self) -> dict[str, Any]:
        return self._options

    def _check_rule(self, rule: EnvironmentsRule) -> None:
        own = EnvironmentsRule(**{"model": self.name, **self._options})
        for one in fields_of(EnvironmentsRule):
            if not self.fitted and (self.descriptor is None or one.name not in _OF_DESCRIPTOR):
                continue
            given, fitted = getattr(rule, one.name), getattr(own, one.name)
            if (
                one.name == "descriptor"
                and not self._spectrum
                and kind_of_rows(given)[0] in ("array", "file")
            ):
                continue
            if given != fitted:
                raise ValueError(
                    f"{self.name} was fitted with {one.name} {'its default' if fitted is None else fitted}, "
                    f"found {given}; leave the option {one.name} out, or fit again with "
                    "environments/mixture-v1."
                )

    @property
    def _spectrum(self) -> bool:
        return self.descriptor is not None and not isinstance(self.descriptor, ArrayRows | FileRows)

    def described_by(self, rule: EnvironmentsRule) -> AnyDescriptor:
        """The descriptor for a rule: that of the checkpoint, or the array or file that the rule names."""
        if self._spectrum:
            assert self.descriptor is not None
            return self.descriptor
        kind, name = kind_of_rows(rule.descriptor)
        if kind == "array":
            return ArrayRows(name)
        known = self.descriptor
        return known if isinstance(known, FileRows) and known.path == name else FileRows(name)

    # The fit --------------------------------------------------------------------------------------

    def fit_frames(
        self, frames: Iterable[Frame], rule: EnvironmentsRule, *, progress: Progress | None = None
    ) -> EnvironmentsModel:
        """Return a model with the clusters of all frames; its checkpoint can be saved.

        Positions of all frames are kept in memory, descriptors of at most 100,000 atoms.

        Raises
        ------
        ValueError
            As `phaseseg.families.environments.learn.fit_environments`.
        """
        is_network = self.checkpoint.config.get("method") in ("meagraph", CONTRAST)
        network = self.checkpoint if is_network else None
        found, descriptor = learn(
            list(frames), rule, f"{self.name}-fitted",
            descriptor=self.descriptor, network=network, progress=progress,
        )  # fmt: skip
        model = EnvironmentsModel(found)
        if isinstance(descriptor, FileRows):
            model.descriptor = descriptor
        return model

    def check_frame(self, frame: Frame) -> None:
        """Refuse a frame without atoms or in reduced units with a ValueError."""
        check_units(frame.units, frame.error_prefix)
        super().check_frame(frame)

    # The expensive half ---------------------------------------------------------------------------

    def run(
        self,
        frame: Frame,
        rule: EnvironmentsRule | None = None,
        *,
        device: Device = "auto",
        progress: Progress | None = None,
    ) -> EnvironmentsOutput:
        """Describe the environments of a frame and assign them to clusters.

        Parameters
        ----------
        rule : of its options `descriptor` is used, if the descriptors come as an array or a file
        device : "auto" or "cpu"
        progress : called with the completed fraction and a line; it may raise to stop

        Raises
        ------
        ValueError
            If there are no atoms, units differ, a species is unknown, the descriptors of the atoms are
            missing, have another number of features or are not finite, the device is not the processor, or
            the model was not fitted yet.
        """
        rule = self.rule() if rule is None else rule
        self.check_frame(frame)
        if device_kind(device) != "cpu":
            raise ValueError(f"{self.name} runs on the processor only; choose the device auto or cpu.")
        if self.clusters is None:
            raise ValueError(
                f"{self.name} has no clusters yet; let it learn from all frames with fit_frames."
            )
        note = progress or (lambda done, text: None)
        note(0.0, "describing environments")
        n_atoms, done = frame.n_atoms, 0
        labels = np.empty(n_atoms, dtype=np.int32)
        distances, scores = np.empty((2, n_atoms), dtype=np.float32)
        outside, alone = np.empty(n_atoms, dtype=bool), np.zeros(n_atoms, dtype=bool)
        descriptor = self.described_by(rule)
        codes = descriptor.codes(frame) if isinstance(descriptor, PowerSpectrum) else None
        for atoms, rows in parts_of_rows(descriptor, frame):
            n, expected = rows.shape[1], self.clusters.n_features
            if n != expected:
                raise ValueError(
                    f"{frame.error_prefix}the descriptor has {n} features, but {self.name} was fitted on "
                    f"{expected}; use the descriptor of the fit with the same settings and cutoff."
                )
            if isinstance(descriptor, PowerSpectrum) and codes is not None:
                alone[atoms] = descriptor.alone(rows, codes[atoms])
            for first in range(0, len(rows), STEP):
                chosen, some = atoms[first : first + STEP], rows[first : first + STEP]
                note((done + first) / n_atoms, f"assigned {done + first:,} of {n_atoms:,} atoms")
                labels[chosen] = found = self.clusters.assign(some)
                distances[chosen] = self.clusters.distances(some, found)
                outside[chosen] = self.clusters.outside(some)
                if self.outliers is not None:
                    compared = compared_rows(self.descriptor, some, 1)[0] if self._all_neighbors else some
                    scores[chosen] = strangeness(self.outliers, self.references, compared)
            done += len(rows)
        self.check_finite(frame, distances, scores[: n_atoms if self.outliers else 0])
        note(1.0, "environments")
        known = scores if self.outliers is not None else None
        return EnvironmentsOutput(labels, distances, known, outside, alone)

    def merge(self, frame: Frame, parts: Sequence[Part]) -> EnvironmentsOutput:
        """The output of a frame from those of slabs; see `Model.merge`."""
        labels = np.empty(frame.n_atoms, dtype=np.int32)
        distances, scores = np.empty((2, frame.n_atoms), dtype=np.float32)
        outside, alone = np.empty((2, frame.n_atoms), dtype=bool)
        for part in parts:
            rows = part.atoms[part.own]
            labels[rows], distances[rows] = part.output.labels[part.own], part.output.distances[part.own]
            outside[rows], alone[rows] = part.output.outside[part.own], part.output.alone[part.own]
            if part.output.scores is not None:
                scores[rows] = part.output.scores[part.own]
        known = scores if self.outliers is not None else None
        return EnvironmentsOutput(labels, distances, known, outside, alone)

    # The cheap half -------------------------------------------------------------------------------

    def fields(
        self,
        frame: Frame,
        output: EnvironmentsOutput,
        rule: EnvironmentsRule | None = None,
        **options: Any,
    ) -> Fields:
        """Compute the fields from an output.

        Returns
        -------
        Fields
            Per atom `environment` (int32), `environment_distance` and, if the model knows the environments of
            the fit, `outlier_score`. Per frame `n_environments`, `n_unassigned`, `n_unfamiliar` and
            `largest_outlier_score`. The table `environment_clusters`.
        """
        labels, distances = output.labels, output.distances
        n = len(labels)
        present, counts = np.unique(labels[labels >= 0], return_counts=True)
        means = np.bincount(labels[labels >= 0], distances[labels >= 0])[present] / np.maximum(counts, 1)
        table = Table(
            "Clusters of environments",
            {
                "cluster": present.astype(np.int64), "atoms": counts.astype(np.int64), "share": counts / n,
                "share of the fit": self.shares[present], "mean distance": means,
            },
        )  # fmt: skip
        values: dict[str, Any] = {
            "environment": labels.copy(), "environment_distance": distances.copy(),
            "n_environments": len(present), "n_unassigned": n - int(counts.sum()),
            "n_unfamiliar": int((distances > self.familiar).sum()), "environment_clusters": table,
        }  # fmt: skip
        if output.scores is not None:
            values["outlier_score"] = output.scores.copy()
            values["largest_outlier_score"] = float(output.scores.max())
        messages = [
            *self._messages(values, counts, n), *self.outside(outside_words(float(output.outside.mean())))
        ]  # fmt: skip
        if isinstance(self.descriptor, PowerSpectrum) and output.alone.any():
            messages.append(without_neighbors(int(output.alone.sum()), self.descriptor))
        if self._all_neighbors:
            messages.append(without_species(self.descriptor))
        return Fields(values, [*frame.messages, *messages])

    def _messages(self, values: Mapping[str, Any], counts: NDArray[Any], n: int) -> list[Message]:
        config = self.checkpoint.config
        assert self.clusters is not None
        known, here = self.clusters.n_clusters, values["n_environments"]
        text = f"{here:,} of {plural(known, 'cluster')} of {self.name} {'occurs' if here == 1 else 'occur'}"
        if len(counts):
            text += f"; the most frequent one has {counts.max() / n:.1%} of the atoms"
        found = [Message(f"{text}.", "environments")]
        if values["n_unassigned"]:
            found.append(Message(f"{plural(values['n_unassigned'], 'atom')} in no cluster.", "unassigned"))
        if isfinite(self.familiar) and values["n_unfamiliar"] > max(2, 0.05 * n):
            found.append(
                Message(
                    f"{values['n_unfamiliar'] / n:.1%} of the atoms are farther from the clusters than 99 % "
                    f"of the atoms of {self.name}; their labels mean little.",
                    "unfamiliar",
                )
            )
        fitted, n_atoms = config.get("n_fitted"), config.get("n_atoms")
        if fitted != n_atoms and isinstance(fitted, int) and isinstance(n_atoms, int):
            found.append(
                Message(
                    f"The clusters were found in a random sample of {fitted:,} of {n_atoms:,} atoms.",
                    "sampled",
                )
            )
        return found


def outliers_from(weights: Mapping[str, NDArray[np.float32]]) -> OutlierModel | None:
    """The model of outlier scores in a checkpoint, or None; ValueError for damaged arrays."""
    head = "outliers."
    arrays: dict[str, NDArray[Any]]
    arrays = {key[len(head) :]: from_parts(values) for key, values in weights.items() if key.startswith(head)}
    if not arrays:
        return None
    for name in ("labels", "k", "by_atom"):
        arrays[name] = whole(arrays[name], name)
    model = OutlierModel.from_arrays(arrays)
    n, d = len(model.points), model.scale.axes.shape[1]
    shapes = {"points": (n, d), "labels": (n,), "reach": (n,)}
    for name, shape in shapes.items():
        if getattr(model, name).shape != shape:
            raise ValueError(f"outliers.{name} must have the shape {shape}")
    n_others = n if model.by_atom else len(np.unique(model.labels))
    large = max(float(np.abs(array).max(initial=0.0)) for array in arrays.values())
    if not 1 <= model.k < n_others or not model.typical > 0 or not large < LARGEST or model.labels.min() < 0:
        raise ValueError("the references of outlier scores are damaged")
    return model


def strangeness(model: OutlierModel, tree: cKDTree, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) outlier scores of rows; a copy of a reference counts as that atom and is not its own neighbor.

    tree : of the points of the model
    """
    far, near = tree.query(model.scale(rows), distance_upper_bound=COPY)
    known = np.isfinite(far)
    out = np.empty(len(rows))
    if known.any():
        out[known] = model.scores(rows[known], model.labels[near[known]])
    if not known.all():
        out[~known] = model.scores(rows[~known])
    return out
