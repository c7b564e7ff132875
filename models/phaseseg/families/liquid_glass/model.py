"""Predictions: how likely a configuration, and the surroundings of each particle, are those of a glass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint, CheckpointError
from phaseseg.families.liquid_glass.attention import (
    attention_bonds,
    attention_counts,
    particle_attention,
    trough,
)
from phaseseg.families.liquid_glass.crops import graph_of
from phaseseg.families.liquid_glass.images import Plane, Style, draw
from phaseseg.families.liquid_glass.inference import GlassOutput, Network, check_weights
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.fields import Bonds, Fields
from phaseseg.frame import Frame
from phaseseg.neighbors.graph import nearest_neighbors
from phaseseg.nn.device import Device, check_device, device_kind

# A frame is outside of the range of validity so far beyond the densities and compositions of the training.
DENSITY_SLACK = 0.05
FRACTION_SLACK = 0.02
# Images that are held at a time.
IMAGES = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GlassRule:
    """How an answer of a network is read.

    model : name of the checkpoint
    b : names of the species that are B, all others are A; None: the species have the names of the network's
    threshold : probability from which on a configuration, or a particle, is glass
    attention : whether the attention is given; None: where the network has it
    attention_threshold : attention from which on an edge is kept; None: that of the checkpoint where it has
        one, else the trough of the frame's own distribution

    Raises
    ------
    ValueError
        For a value out of range.
    """

    model: str = ""
    b: str | tuple[str, ...] | None = None
    threshold: float = 0.5
    attention: bool | None = None
    attention_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.b is not None:
            names = (self.b,) if isinstance(self.b, str) else tuple(self.b)
            if not names or not all(isinstance(name, str) and name for name in names):
                raise ValueError(f"b must name one species or several, found {self.b!r}.")
            object.__setattr__(self, "b", names)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be a probability between 0 and 1, found {self.threshold}.")
        if self.attention_threshold is not None and not 0 < self.attention_threshold < np.inf:
            raise ValueError(
                f"attention_threshold must be positive (1 is the mean), found {self.attention_threshold}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"b": None if self.b is None else list(self.b)}


@dataclass(frozen=True, eq=False)
class GlassAnswer:
    """What the networks say of a frame; thresholds do not enter.

    probability, uncertainty : of the whole configuration being a glass; standard deviation over the members
    of_particles, spread : (n_atoms,) float32, the same of the surroundings of each particle; None of images
    bonds : the edges of the graph with their `attention`, mean of members and directions, and `bb`; None
        without attention
    attention : (n_atoms,) float32, mean of the edges at each particle
    is_b : (n_atoms,) bool
    messages : about the range of validity
    """

    probability: float
    uncertainty: float
    is_b: NDArray[np.bool_]
    of_particles: Floats | None = None
    spread: Floats | None = None
    bonds: Bonds | None = None
    attention: Floats | None = None
    messages: tuple[str, ...] = ()


class GlassModel:
    """The networks of a checkpoint that tell liquid from glass, ready to be used on frames.

    Attributes
    ----------
    checkpoint : Checkpoint
    name : of the checkpoint
    config : GlassConfig
    n_members : number of networks
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.family != "liquid_glass":
            raise CheckpointError(
                f"{checkpoint.name}: this is a checkpoint of the family {checkpoint.family}, and not of "
                "liquid_glass."
            )
        self.checkpoint, self.name = checkpoint, checkpoint.name
        try:
            settings = checkpoint.config
            self.config = GlassConfig.from_dict(settings["network"])
            self._temperature = float(settings.get("temperature_scaling", 1.0))
            cut = settings.get("attention_threshold")
            self._cut = None if cut is None else float(cut)
            ranges = settings.get("ranges") or checkpoint.ranges
            self._densities, self._fractions = (
                (float(ranges[name][0]), float(ranges[name][1])) for name in ("number_density", "b_fraction")
            )
            self._members = _members(checkpoint.weights)
            check_weights(self.config, self._members)
            if not self._temperature > 0:
                raise ValueError(f"temperature_scaling must be positive, found {self._temperature}")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise CheckpointError(
                f"{checkpoint.name}: the settings in the checkpoint cannot be used: {what}."
            ) from None
        self._networks: dict[str, Any] = {}

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> GlassModel:
        """The model in a checkpoint.

        Raises
        ------
        CheckpointError
            For a checkpoint of another family, or one that lacks something.
        """
        return cls(checkpoint)

    @property
    def n_members(self) -> int:
        return len(self._members)

    check_device = staticmethod(check_device)

    def rule(self, **options: Any) -> GlassRule:
        """The rule of a prediction with options in place of the defaults; None is the default.

        Raises
        ------
        TypeError
            For an unknown option.
        ValueError
            For a value out of range, or attention of a network that has none.
        """
        known = [field.name for field in fields(GlassRule) if field.name != "model"]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(unknown)}; the options of {self.name} are {', '.join(known)}."
            )
        rule = GlassRule(self.name, **{name: value for name, value in options.items() if value is not None})
        if (rule.attention or rule.attention_threshold is not None) and not self.config.attention:
            raise ValueError(
                f"{self.name} has no attention; choose a checkpoint that has, as "
                "liquid_glass/dmpnn-attention-v1."
            )
        return rule

    def predict(self, frame: Frame, *, device: Device = "auto", **options: Any) -> Fields:
        """The fields of a frame: `fields` of the `answer`.

        Raises
        ------
        ValueError, TypeError, ImportError
            As `rule` and `answer`.
        """
        rule = self.rule(**options)
        answer = self.answer(frame, b=rule.b, attention=rule.attention is not False, device=device)
        return self.fields(frame, answer, **options)

    # The expensive half ---------------------------------------------------------------------------

    def answer(
        self,
        frame: Frame,
        *,
        b: str | Sequence[str] | None = None,
        attention: bool = True,
        device: Device = "auto",
    ) -> GlassAnswer:
        """Run the networks on a frame.

        Parameters
        ----------
        b : names of the species that are B, all others are A; None: they have the names of the network's
        attention : whether the edges are kept, of a network with attention
        device : "auto" or "cpu" for the compiled loops, "torch" for torch on the processor, "cuda" for torch
            on a GPU; the numbers are the same

        Raises
        ------
        ValueError
            No particles, one kind of particles alone, unknown species, units or dimensions that the networks
            do not know, too few particles for their neighbors or for an image, an unknown device.
        ImportError
            For a device that needs torch where that is not installed.
        """
        network = self._network(device)
        b = b if b is None or isinstance(b, str) else tuple(b)
        codes = self._codes(frame, b)
        is_b = codes == 1
        messages = self._validity(frame, is_b)
        if self.config.architecture == "cnn":
            each = self._probabilities(
                np.concatenate([network(images) for images in _images(frame, codes, self.config)], axis=1)
            ).mean(axis=1)
            return GlassAnswer(float(each.mean()), float(each.std()), is_b, messages=messages)
        near = nearest_neighbors(frame, self.config.k, dimensions=self.config.dimensions)
        graphs = graph_of(frame, self.config, b, near)
        output: GlassOutput = network(graphs)
        whole = self._probabilities(output.graphs[:, 0])
        of_particles, spread = _mean_and_spread(self._probabilities(output.nodes))
        bonds = weight = None
        if attention and output.attention is not None:
            mean = output.attention.mean(axis=0)
            bonds = attention_bonds(graphs, near, mean, is_b)
            weight = particle_attention(graphs, mean)
        return GlassAnswer(
            float(whole.mean()), float(whole.std()), is_b, of_particles, spread, bonds, weight, messages
        )

    def _network(self, device: str) -> Callable[..., Any]:
        kind = device_kind(device)
        if kind not in self._networks:
            images = self.config.architecture == "cnn"
            if kind == "cpu":
                self._networks[kind] = self._image_logits if images else Network(self.config, self._members)
            else:
                from phaseseg.families.liquid_glass.torch_inference import TorchImages, TorchNetwork

                made = TorchImages if images else TorchNetwork
                self._networks[kind] = made(
                    self.config, self._members, device="cuda" if kind == "cuda" else "cpu"
                )
        network: Callable[..., Any] = self._networks[kind]
        return network

    def _image_logits(self, images: Floats) -> Floats:
        from phaseseg.families.liquid_glass.image_inference import image_logits

        return np.stack([image_logits(weights, images, self.config) for weights in self._members])

    def _probabilities(self, logits: Floats) -> Floats:
        # exp of at most 80 still is a float32.
        scaled = np.clip(logits / np.float32(self._temperature), -80, 80)
        return np.asarray(1 / (1 + np.exp(-scaled)), dtype=np.float32)

    def _codes(self, frame: Frame, b: str | tuple[str, ...] | None) -> NDArray[np.int32]:
        """0 for A, 1 for B; refuses what the networks do not know."""
        where = f"{frame.source}: " if frame.source else ""
        if frame.n_atoms == 0:
            raise ValueError(f"{where}the frame has no particles, so there is nothing to predict.")
        if frame.units != self.checkpoint.units:
            raise ValueError(
                f"{where}the frame has the units {frame.units!r}, but {self.name} was trained with "
                f"{self.checkpoint.units!r}; if the file is in reduced units and does not say so, read it "
                "with units 'lj' (--units lj)."
            )
        codes = self.config.codes_of(frame, b)
        found, known = frame.n_dimensions, self.config.dimensions
        if found != known:
            names = {2: "two dimensions", 3: "three dimensions"}
            raise ValueError(
                f"{where}the particles are in {names[found]}, but {self.name} was trained in {names[known]}; "
                "choose another checkpoint."
            )
        return codes

    def _validity(self, frame: Frame, is_b: NDArray[np.bool_]) -> tuple[str, ...]:
        parts = []
        dimensions = self.config.dimensions
        if frame.pbc[:dimensions].all():
            area = float(np.linalg.norm(np.cross(frame.cell[0], frame.cell[1])))
            density, (low, high) = (
                frame.n_atoms / (area if dimensions == 2 else frame.volume),
                self._densities,
            )
            if not low * (1 - DENSITY_SLACK) <= density <= high * (1 + DENSITY_SLACK):
                parts.append(
                    f"there are {density:.4g} particles per σ^{dimensions} where the training data have "
                    f"{_span(low, high)}"
                )
        share, (low, high) = float(is_b.mean()), self._fractions
        if not low - FRACTION_SLACK <= share <= high + FRACTION_SLACK:
            parts.append(
                f"{share:.3g} of the particles are B where the training data have {_span(low, high)}"
            )
        if not parts:
            return ()
        return (f"Outside of the range in which {self.name} is known to hold: {', and '.join(parts)}.",)

    # The cheap half -------------------------------------------------------------------------------

    def fields(self, frame: Frame, answer: GlassAnswer, **options: Any) -> Fields:
        """What follows from an answer: cheap to repeat with another threshold.

        Parameters
        ----------
        answer : of this frame by this model
        options : as for `phaseseg.api`

        Returns
        -------
        Fields
            Per frame `frame_glass_probability` and `frame_glass_uncertainty`. Of a network on graphs, per
            atom `glass_probability` and `glass_uncertainty`, and `glass_fraction`, the share of particles at
            or above the threshold. Of one with attention also `attention` per atom; bonds `attention_bonds`
            with `attention` (1 is the mean of the frame), `bb`, `length` (σ) and `kept`; and
            `attention_threshold` with the numbers of the graph of the edges that are kept:
            `attention_n_disjoint_graphs`, `attention_n_bb_edges` and `attention_n_isolated_a` (see
            `glass_metrics`).

        The probability of a particle comes from networks that were told of every particle of a glass that it
        is in one: it says in which of the two surroundings as its own, some T + 1 edges wide, are met more
        often.
        """
        rule = self.rule(**options)
        p = answer.probability
        verdict = "Glass" if p >= rule.threshold else "Liquid"
        over = f" ± {answer.uncertainty:.3f} over {self.n_members} networks" if self.n_members > 1 else ""
        messages = [f"{verdict} by {self.name}: the probability of a glass is {p:.3f}{over}."]
        values: dict[str, Any] = {}
        if answer.of_particles is not None and answer.spread is not None:
            values |= {"glass_probability": answer.of_particles, "glass_uncertainty": answer.spread}
        numbers: dict[str, Any] = {
            "frame_glass_probability": p,
            "frame_glass_uncertainty": answer.uncertainty,
        }
        if answer.of_particles is not None:
            numbers["glass_fraction"] = float(np.mean(answer.of_particles >= rule.threshold))
        if rule.attention is not False and answer.bonds is not None:
            weight = answer.bonds.columns["attention"]
            cut, sentence = self._attention_cut(weight, rule)
            messages.append(sentence)
            keep = weight >= np.float32(cut)
            counts = attention_counts(answer.bonds, answer.is_b, keep)
            columns = {**answer.bonds.columns, "kept": keep.astype(np.int8)}
            values |= {
                "attention": answer.attention,
                "attention_bonds": Bonds(answer.bonds.atoms, answer.bonds.shifts, columns),
            }
            numbers |= {
                "attention_threshold": cut,
                "attention_n_disjoint_graphs": counts.n_disjoint_graphs,
                "attention_n_bb_edges": counts.n_bb_edges,
                "attention_n_isolated_a": counts.n_isolated_a,
            }
        if self.n_members == 1:
            messages.append(f"{self.name} holds one network, so the glass uncertainty is 0 everywhere.")
        return Fields(values | numbers, (*messages, *answer.messages))

    def _attention_cut(self, attention: Floats, rule: GlassRule) -> tuple[float, str]:
        for cut, whose in ((rule.attention_threshold, "as asked for"), (self._cut, f"as {self.name} says")):
            if cut is not None:
                return cut, f"Attention is cut at {cut:.3g}, {whose}."
        found = trough(attention)
        return found.threshold, found.sentence


def _span(low: float, high: float) -> str:
    return f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"


def _mean_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the members, (n_members, n); of one member exactly 0."""
    mean = values.mean(axis=0, dtype=np.float32)
    square = np.zeros_like(mean)
    if len(values) > 1:
        for one in values:
            square += (one - mean) ** 2
    return mean, np.sqrt(square / np.float32(len(values)))


def _members(weights: Mapping[str, Floats]) -> list[dict[str, Floats]]:
    members: dict[int, dict[str, Floats]] = {}
    for name, values in weights.items():
        head, _, rest = name.partition(".")
        if not head.startswith("member") or not head[6:].isdigit():
            raise ValueError(f"{name} is no weight of a member")
        members.setdefault(int(head[6:]), {})[rest] = values
    if sorted(members) != list(range(len(members))):
        raise ValueError(f"of {max(members) + 1} networks {len(members)} are there")
    return [members[number] for number in range(len(members))]


def _images(frame: Frame, codes: NDArray[np.int32], config: GlassConfig) -> Iterator[Floats]:
    """Images that cover a configuration, some at a time: as few squares of the trained size as can.

    They lie in rows along the cell vectors, evenly, and overlap where the cell is no multiple of them.
    """
    plane, edge = Plane.of(frame, codes), config.image_edge
    inverse = np.linalg.inv(plane.cell)
    fractions = plane.positions @ inverse
    low, span = fractions.min(axis=0), np.ptp(fractions, axis=0)
    low, span = np.where(plane.pbc, 0.0, low), np.where(plane.pbc, 1.0, span)
    lengths = np.linalg.norm(plane.cell, axis=1) * span
    if lengths.min() < edge * (1 - 1e-9):
        where = f"{frame.source}: " if frame.source else ""
        raise ValueError(
            f"{where}the network looks at squares of {edge:.3g} σ, and the particles fill {lengths[0]:.3g} x "
            f"{lengths[1]:.3g} σ; repeat the cell or choose a network on graphs."
        )
    places = []
    for axis in range(2):
        n = ceil(lengths[axis] / edge * (1 - 1e-9))
        if plane.pbc[axis]:
            places.append(np.arange(n) / n)
        else:
            last = span[axis] * (1 - edge / lengths[axis])
            places.append(low[axis] + np.linspace(0, last, n) if n > 1 else low[axis : axis + 1] + last / 2)
    style = Style.of_config(config)
    # What lies along the row of images alone is drawn: in fractions, the squares and a disk's radius around.
    reach = np.abs(inverse).sum(axis=0) * max(config.radii)
    corners = np.array([(0, 0), (edge, 0), (0, edge), (edge, edge)]) @ inverse
    below, wide = corners[:, 0].min() - reach[0], np.ptp(corners[:, 0]) + 2 * reach[0]
    for first in places[0]:
        apart = fractions[:, 0] - (first + below)
        apart = apart - np.floor(apart) if plane.pbc[0] else apart
        near = (apart >= 0) & (apart <= wide)
        row = Plane(plane.positions[near], plane.codes[near], plane.cell, plane.pbc, plane.source)
        starts = np.stack([np.full(len(places[1]), first), places[1]], axis=1) @ plane.cell
        for at in range(0, len(starts), IMAGES):
            yield draw(row, starts[at : at + IMAGES], config.image_size, style)
