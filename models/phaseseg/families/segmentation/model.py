"""Predictions: from the logits of a network to phase, probability and uncertainty of every atom.

The network assigns a score to every atom, approximately its signed distance to the interface in Å. The scores
are smoothed on a grid, and the interface is their level set. All later steps are those of the weak labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.compiled.buffer_pool import borrow
from phaseseg.compiled.jit import jit
from phaseseg.compiled.threads import in_parts
from phaseseg.families import Part, Progress
from phaseseg.families.segmentation.fields import BOUNDARY, POOR, RICH
from phaseseg.families.segmentation.labels.assignment import (
    PhaseAssignment,
    any_of,
    assign_phases,
    dropped_sentence,
    frame_numbers,
    has_interface,
    masks_of,
    one_phase,
)
from phaseseg.families.segmentation.labels.density import Field, smoothed_density
from phaseseg.families.segmentation.labels.molecules import Molecules, find_molecules
from phaseseg.families.segmentation.labels.voids import find_matter
from phaseseg.families.segmentation.rules import LabelRule, PredictionRule
from phaseseg.families.segmentation.score_field import ScoreField, score_field, with_voids
from phaseseg.families.segmentation.settings import FeatureSet, NetworkConfig, Scaling
from phaseseg.fields import Fields, Message
from phaseseg.frame import Frame
from phaseseg.nn.device import Device
from phaseseg.nn.model import NetworkModel, density_outside, number_of

if TYPE_CHECKING:
    from phaseseg.families.segmentation.inference import NetworkOutput

# A frame is outside the range of validity if more than this fraction of its atoms is.
MOST_OUTSIDE = 0.01
# Levels close to the bound of the scores would be dominated by noise.
HIGHEST_LEVEL = 0.99
# Voxels along each axis of the grid that the paper's code uses for the boundary.
PAPER_VOXELS = 50
# Depth, Å, of the atoms whose mirror images continue the liquids beyond a free surface, by the features of a
# network. Images of deeper atoms bring the other liquid next to a thin layer. For counts, 1.5 Å of 1, 1.5, 2
# and 3 Å puts the fewest atoms on another side than the labels do, in pieces cut from bundled melts.
MIRRORED: dict[FeatureSet, float] = {"counts": 1.5, "densities": 3.0}


@dataclass(eq=False)
class Scores:
    """Network results for the atoms of a frame, independent of threshold and boundary.

    score : (n_atoms,) float32, Å; mean over members
    members : (n_members, n_atoms) float32, Å; score of each network
    probability : (n_atoms,) float32, probability of rich
    uncertainty : (n_atoms,) float32; standard deviation of the probability over members
    boundary : (n_atoms,) float32, probability of boundary, if the network predicts it
    outside : fraction of atoms outside the training range, for the feature with the largest such fraction
    messages : why the frame is outside of the range of validity; parts of one sentence
    plain : scores without mirror images of the atoms at free surfaces, if there are any
    field : smoothed scores, once computed
    """

    score: NDArray[np.float32]
    members: NDArray[np.float32]
    probability: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    boundary: NDArray[np.float32] | None = None
    outside: float = 0.0
    messages: tuple[str, ...] = ()
    plain: Scores | None = field(default=None, init=False, repr=False)
    field: ScoreField | None = field(default=None, init=False, repr=False)


@jit
def _combine(
    first, stop, logits, scales, offsets, bound, temperature, members, score, probability, uncertainty,
    boundary,
):  # fmt: skip
    """Compute scores, probabilities and their spread from logits (n_members, n_atoms, outputs)."""
    n_members = logits.shape[0]
    per = np.float32(1 / temperature)
    for atom in range(first, stop):
        total = np.float32(0)
        mean, square, middle = np.float32(0), np.float32(0), np.float32(0)
        for m in range(n_members):
            z0, z1 = logits[m, atom, 0], logits[m, atom, 1]
            s = bound * np.float32(np.tanh((scales[m] * (z1 - z0) + offsets[m]) / bound))
            members[m, atom] = s
            total += s
            p = np.float32(1) / (np.float32(1) + np.float32(np.exp(-s * per)))
            # Welford's algorithm avoids differences of large numbers.
            step = p - mean
            mean += step / np.float32(m + 1)
            square += step * (p - mean)
            if boundary.size:
                z2 = logits[m, atom, 2]
                top = max(z0, z1, z2)
                e0, e1, e2 = np.exp(z0 - top), np.exp(z1 - top), np.exp(z2 - top)
                middle += np.float32(e2 / (e0 + e1 + e2))
        s = total / np.float32(n_members)
        score[atom] = s
        probability[atom] = np.float32(1) / (np.float32(1) + np.float32(np.exp(-s * per)))
        uncertainty[atom] = np.sqrt(square / np.float32(n_members))
        if boundary.size:
            boundary[atom] = middle / np.float32(n_members)


class SegmentationModel(NetworkModel):
    """The networks of a checkpoint, ready for prediction.

    Attributes
    ----------
    config : NetworkConfig
    scaling : Scaling
    label_rule : FixedRule of the training labels
    """

    family = "segmentation"
    rule_type = PredictionRule
    not_options = ("model", "species")
    shared = ("feature.",)

    def _read(self, checkpoint: Checkpoint) -> None:
        settings = checkpoint.config
        self.config = NetworkConfig.from_dict(settings["network"])
        self.label_rule = LabelRule(**settings["label_rule"]).fixed()
        number_of(self.label_rule.sigma, "sigma of the label rule", positive=True)
        score, interface = settings["score"], settings["interface"]
        self._bound, self._temperature = (
            number_of(score[name], name, positive=True) for name in ("bound", "temperature")
        )
        self._scales, self._offsets = (
            np.array([number_of(one, name) for one in score[name]], dtype=np.float32)
            for name in ("scale", "offset")
        )
        self.smoothing: dict[str, Any] = {
            "sigma": number_of(interface["sigma"], "sigma", positive=True),
            "voxel": number_of(interface["voxel"], "voxel", positive=True), "bound": self._bound,
            "curvature": bool(interface.get("curvature", False)),
        }  # fmt: skip
        self._densities = self.ranges("number_density")
        weights = checkpoint.weights
        self.scaling = Scaling(*(weights[f"feature.{name}"] for name in ("center", "scale", "low", "high")))
        if not len(self.members) == len(self._scales) == len(self._offsets):
            raise ValueError(f"there are {len(self.members)} networks but {len(self._scales)} score scales")

    def _defaults(self) -> dict[str, Any]:
        return {
            "species": self.config.target,
            "boundary_width": self.label_rule.boundary_width,
            "min_volume": self.label_rule.min_volume,
        }

    def _check_rule(self, rule: PredictionRule) -> None:
        if rule.boundary == "learned" and self.config.outputs != 3:
            raise ValueError(
                f"{self.name} does not predict a boundary class; choose the boundary 'interface' or 'voxels'."
            )

    def _make(self, kind: str) -> Callable[..., Any]:
        if kind == "cpu":
            from phaseseg.families.segmentation.inference import Network

            return Network(self.config, self.scaling, self.members)
        from phaseseg.families.segmentation.network import TorchNetwork

        device = "cuda" if kind == "cuda" else "cpu"
        return TorchNetwork(self.config, self.scaling, self.members, device=device)

    @property
    def halo(self) -> float:
        """Range of the network, Å: one cutoff for the features and one for every layer."""
        return self.config.cutoff * (1 + self.config.layers)

    # The expensive half ---------------------------------------------------------------------------

    def run(
        self, frame: Frame, rule: PredictionRule | None = None, *, device: Device = "auto",
        progress: Progress | None = None,
    ) -> Scores:  # fmt: skip
        """Run the networks on a frame; the result does not depend on the rule.

        device : "auto" or "cpu" for the compiled loops, "torch" for torch on the CPU, "cuda" for torch on a
            GPU; all give the same scores up to rounding

        Raises
        ------
        ValueError
            For a frame without atoms, species or units unknown to the networks, or an unknown device.
        ImportError
            If the device needs torch and it is not installed.
        """
        codes = self.codes(frame)
        return self._completed(frame, self.scores_of(frame, self.network(device)(frame, codes)), device)

    score = run

    def _completed(self, frame: Frame, scores: Scores, device: Device) -> Scores:
        """Return the scores of a frame whose liquids continue beyond its free surfaces.

        The networks know only atoms that are surrounded by others. Near a void, features lack what the
        missing atoms would add. In a second run, mirror images of the outermost atoms take their place.
        Without voids, the scores are returned as they are.
        """
        scores.field = score_field(frame, scores.score, **self.smoothing)
        matter = find_matter(scores.field, self.label_rule.sigma, scores.field.scores >= 0)
        if matter is None:
            return scores
        depth = MIRRORED[self.config.features]
        # Densities near an atom need one layer of images, and neighbors are counted up to the cutoff.
        reach = self.config.cutoff if self.config.features == "counts" else depth
        n, (atoms, shifts) = frame.n_atoms, matter.mirrored(depth, reach)
        images = frame.positions[atoms] + shifts
        whole = frame.take(
            np.concatenate([np.arange(n), atoms]), positions=np.concatenate([frame.positions, images])
        )
        output = self.network(device)(whole, self.codes(whole))
        found = self.scores_of(whole, replace(output, logits=output.logits[:, :n]))
        # What is outside the range of the training data is said of the frame, not of its images.
        found.outside, found.messages, found.plain = scores.outside, scores.messages, scores
        scores.field = None
        return found

    def scores_of(self, frame: Frame, output: NetworkOutput) -> Scores:
        """Compute scores from the logits of the networks."""
        self.check_finite(frame, output.logits)
        n_members, n_atoms, n_outputs = output.logits.shape
        members = borrow((n_members, n_atoms), np.float32)
        score, probability, uncertainty = (borrow(n_atoms, np.float32) for _ in range(3))
        boundary = borrow(n_atoms if n_outputs == 3 else 0, np.float32)
        in_parts(
            _combine, n_atoms, output.logits, self._scales, self._offsets, np.float32(self._bound),
            self._temperature, members, score, probability, uncertainty, boundary,
        )  # fmt: skip
        outside = float(output.n_outside.max(initial=0) / max(n_atoms, 1))
        return Scores(
            score, members, probability, uncertainty, boundary if n_outputs == 3 else None, outside,
            self.features_outside(frame, output),
        )  # fmt: skip

    def merge(self, frame: Frame, parts: Sequence[Part]) -> Scores:
        """Merge the scores of slabs with a halo of `halo` Å into those of the frame.

        `outside` is the maximum over the slabs, an upper bound for the frame; `messages` are those of all. In
        a frame with voids, the networks run once more on the whole frame, as in `run`.
        """
        outputs = [part.output.plain or part.output for part in parts]

        def whole(name: str) -> Any:
            first = getattr(outputs[0], name)
            if first is None:
                return None
            out = np.empty((*first.shape[:-1], frame.n_atoms), dtype=first.dtype)
            for part in parts:
                out[..., part.atoms[part.own]] = getattr(part.output, name)[..., part.own]
            return out

        names = ("score", "members", "probability", "uncertainty", "boundary")
        scores = Scores(
            **{name: whole(name) for name in names},
            outside=max(output.outside for output in outputs),
            messages=tuple(dict.fromkeys(part for output in outputs for part in output.messages)),
        )
        return self._completed(frame, scores, "auto")

    def codes(self, frame: Frame) -> NDArray[np.int32]:
        """Return the index of each atom's species in the networks; raise ValueError for unknown species."""
        self.check_frame(frame)
        return self.config.codes_of(frame, self.name)

    def features_outside(self, frame: Frame, output: NetworkOutput) -> tuple[str, ...]:
        """Parts of a sentence about atoms whose features are outside of the range of the training data."""
        worst = int(np.argmax(output.n_outside))
        share = float(output.n_outside[worst] / max(frame.n_atoms, 1))
        if share <= MOST_OUTSIDE:
            return ()
        low, high = float(self.scaling.low[worst]), float(self.scaling.high[worst])
        below, above = float(output.lowest[worst]), float(output.highest[worst])
        found = f"up to {above:.3g}" if above - high >= low - below else f"down to {below:.3g}"
        what = f"the {self.config.feature_names[worst]} of {share:.1%} of the atoms is {found}"
        return (f"{what}, but the training data range from {low:.3g} to {high:.3g}",)

    def validity(self, frame: Frame, scores: Scores, field: ScoreField | None = None) -> tuple[Message, ...]:
        """The message about the range of validity; in a frame with voids, its mean density says nothing."""
        if field is not None and field.matter is not None:
            surface = (
                f"{field.near_surface:.0%} of the atoms lie within {self.config.cutoff:g} Å of a free "
                "surface, beyond which mirror images replace the missing atoms"
            )
            return self.outside((surface, *scores.messages), "free-surface")
        parts = list(scores.messages)
        if frame.pbc.all():
            parts += density_outside(frame.n_atoms / frame.volume, self._densities, "atoms per Å^3")
        return self.outside(parts)

    # The cheap half -------------------------------------------------------------------------------

    def field(self, frame: Frame, scores: Scores) -> ScoreField:
        """Return the smoothed scores of a frame, computed once; see `score_field`."""
        if scores.field is None:
            smooth = score_field(frame, scores.score, **self.smoothing)
            rule, cutoff = self.label_rule, self.config.cutoff
            chosen = any_of(masks_of(frame, rule.species), frame.n_atoms)[smooth.atoms.order]
            scores.field = with_voids(smooth, rule, chosen, self._bound, cutoff)
        return scores.field

    def level(self, threshold: float) -> float:
        """Return the score, Å, at which the probability of rich is `threshold`."""
        level = self._temperature * log(threshold / (1 - threshold))
        highest = HIGHEST_LEVEL * self._bound
        return float(min(max(level, -highest), highest))

    def fields(
        self, frame: Frame, output: Scores, rule: PredictionRule | None = None, **options: Any
    ) -> Fields:
        """Compute all output fields from the scores; cheap to repeat with another threshold or boundary.

        output : scores of this frame by this model
        rule : prediction rule; alternatively give its options as keywords
        """
        rule = self.rule(**options) if rule is None else rule
        scores, field = output, self.field(frame, output)
        level = self.level(rule.threshold)
        molecules = find_molecules(frame, rule.by)
        assigned, messages = self._assign(frame, field, rule, level, molecules)
        n_phases = 2 if len(assigned.domains) else 1
        learned = scores.boundary if rule.boundary == "learned" else None
        if n_phases == 2 and rule.boundary == "voxels":
            near = voxel_boundary(frame, assigned.domain > 0)
            assigned.phase[near if molecules is None else molecules.mean(near) >= 0.5] = BOUNDARY
        elif n_phases == 2 and learned is not None:
            between, p = learned, scores.probability
            if molecules is not None:
                between, p = (molecules.mean(values).astype(np.float32) for values in (between, p))
            assigned.phase[between > (1 - between) * np.maximum(p, 1 - p)] = BOUNDARY  # most probable class
        chosen = any_of(masks_of(frame, rule.species), frame.n_atoms)
        if assigned.kernel is not None and chosen.any():
            values = smoothed_density(
                field.atoms, chosen[field.atoms.order], field.lattice, assigned.kernel.sigma
            )
            density = Field(replace(field.grid, values=values), field.lattice, field.atoms)
            at_atoms = field.atoms.unsort(density.interpolated())
            assigned = replace(assigned, kernel=assigned.kernel.measured(at_atoms, assigned.distance))
        messages += self.one_network("phase")
        numbers, more = frame_numbers(frame, assigned, rule.species, rule.bulk_distance, molecules)
        return Fields(
            {
                "phase": assigned.phase, "phase_probability": probabilities_of(scores.probability, learned),
                "phase_uncertainty": scores.uncertainty, "interface_distance": assigned.distance,
                "domain": assigned.domain, "score_grid": field.output, "n_phases": n_phases,
                "probability_threshold": float(rule.threshold), "score_threshold": level,
                "mean_uncertainty": float(scores.uncertainty.mean(dtype=np.float64)),
                "outside_training": scores.outside, **numbers,
            },
            (*frame.messages, *messages, *self.validity(frame, scores, field), *more),
        )  # fmt: skip

    def _assign(
        self,
        frame: Frame,
        field: ScoreField,
        rule: PredictionRule,
        level: float,
        molecules: Molecules | None,
    ) -> tuple[PhaseAssignment, list[Message]]:
        domains = field.domains(level, keep=rule.keep, min_volume=rule.min_volume)
        messages: list[Message] = []
        if domains.n_dropped:
            messages.append(dropped_sentence(domains, rule.keep, rule.min_volume, frame.length_unit))
        whole = RICH if domains.n_kept else POOR
        if has_interface(domains, field.grid):
            points: Field = field
            at_points = field.scores
            if molecules is not None:
                points = Field(field.grid, field.lattice, molecules.packed(field.lattice))
                at_points = points.interpolated()
            assigned = assign_phases(
                frame, points, level, domains, at_points >= np.float32(level), molecules=molecules,
                sigma=self.smoothing["sigma"],
                boundary_width=rule.boundary_width if rule.boundary == "interface" else 0.0,
                matter=field.matter, void_boundary=False,
            )  # fmt: skip
            n_rich = int(np.count_nonzero(assigned.domain))
            number = f"{domains.n_kept} rich domain{'s' * (domains.n_kept > 1)}"
            if 0 < n_rich < frame.n_atoms:
                verdict = Message(f"Two phases: {number} by {self.name}.", "two-phases")
                return assigned, [verdict, *messages]
            if n_rich and field.matter is not None:
                text = f"Two phases: {number} by {self.name}, and a void; no poor liquid is left."
                return assigned, [Message(text, "two-phases"), *messages]
            whole = RICH if n_rich else POOR
        missing = "poor" if whole == RICH else "rich"
        verdict = Message(f"One phase by {self.name}: no {missing} region is left.", "one-phase")
        return one_phase(frame.n_atoms, whole, field.matter), [verdict, *messages]


@jit
def _fill_probabilities(first, stop, probability, boundary, out):
    for atom in range(first, stop):
        p = probability[atom]
        rest = np.float32(1)
        if boundary.size:
            rest -= boundary[atom]
            out[atom, 2] = boundary[atom]
        out[atom, 0] = rest * (np.float32(1) - p)
        out[atom, 1] = rest * p


def probabilities_of(
    probability: NDArray[np.float32], boundary: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return probabilities of poor and rich, and of a learned boundary, (n_atoms, 2 or 3) float32."""
    out = borrow((len(probability), 2 if boundary is None else 3), np.float32)
    between = np.empty(0, np.float32) if boundary is None else boundary
    in_parts(_fill_probabilities, len(out), probability, between, out, least=8192)
    return out


def voxel_boundary(frame: Frame, rich: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of boundary atoms, (n_atoms,) bool, determined as in the paper's code.

    Each voxel of a 50 x 50 x 50 grid over the cell has the phase of the last atom in it. Both phases are
    dilated by the six neighboring voxels, and their overlap is the boundary. It is two voxels wide if every
    voxel contains atoms, and vanishes if voxels are smaller than interatomic distances. Unlike in that code,
    the grid follows the reduced cell and is periodic along periodic axes.

    rich : (n_atoms,) bool
    """
    n, frame = PAPER_VOXELS, frame.reduced
    fractions = (frame.positions - frame.origin) @ np.linalg.inv(frame.cell)
    low, high = fractions.min(axis=0), fractions.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    fractions = np.where(frame.pbc, fractions - np.floor(fractions), (fractions - low) / span)
    voxels = tuple(np.minimum((fractions * n).astype(np.int64), n - 1).T)
    kind = np.full((n, n, n), -1, dtype=np.int8)
    kind[voxels] = rich
    overlap = np.ones((n, n, n), dtype=bool)
    for which in (POOR, RICH):
        mask = kind == which
        wide = mask.copy()
        for axis in range(3):
            for step, end in ((-1, n - 1), (1, 0)):
                shifted = np.roll(mask, step, axis)
                if not frame.pbc[axis]:
                    np.moveaxis(shifted, axis, 0)[end] = False
                wide |= shifted
        overlap &= wide
    return np.asarray(overlap[voxels])
