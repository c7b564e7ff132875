"""Predictions: the probability of a glass, for a configuration and for the surroundings of each particle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families import FAMILIES, Progress
from phaseseg.families.liquid_glass.attention import METRICS, attention_bonds, particle_attention, trough
from phaseseg.families.liquid_glass.crops import Graphs, graph_of, number_density
from phaseseg.families.liquid_glass.images import covering_images
from phaseseg.families.liquid_glass.inference import GlassOutput, Network, image_logits
from phaseseg.families.liquid_glass.rules import GlassRule
from phaseseg.families.liquid_glass.settings import GlassConfig
from phaseseg.families.liquid_glass.structural_metrics import graph_counts
from phaseseg.fields import Bonds, Fields, Message
from phaseseg.frame import Frame
from phaseseg.nn.device import Device
from phaseseg.nn.mixtures import fraction_outside
from phaseseg.nn.model import (
    NetworkModel,
    check_weights,
    density_outside,
    mean_and_spread,
    number_of,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class GlassAnswer:
    """Outputs of the networks for a frame, which do not depend on thresholds.

    probability, uncertainty : that the whole configuration is a glass; standard deviation over the members
    of_particles, spread : (n_atoms,) float32, the same for the surroundings of each particle; None for images
    bonds : edges of the graph with `attention` (mean over members and directions) and `bb`; None without
        attention
    attention : (n_atoms,) float32, mean over the edges at each particle
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
    messages: tuple[Message, ...] = ()


class GlassModel(NetworkModel):
    """The networks of a checkpoint that distinguish liquid from glass.

    config : GlassConfig; the other attributes are those of `NetworkModel`
    """

    family = "liquid_glass"
    rule_type = GlassRule

    def _read(self, checkpoint: Checkpoint) -> None:
        settings = checkpoint.config
        self.config = GlassConfig.from_dict(settings["network"])
        scaling = settings.get("temperature_scaling", 1.0)
        self._temperature = number_of(scaling, "temperature_scaling", positive=True)
        cut = settings.get("attention_threshold")
        self._cut = None if cut is None else number_of(cut, "attention_threshold")
        self._densities, self._fractions = self.ranges("number_density"), self.ranges("b_fraction")
        check_weights(self.config.weight_shapes(), self.members)

    @property
    def symmetries(self) -> frozenset[str]:
        """Symmetries of the family; networks on images have fewer."""
        images = self.config.architecture == "cnn"
        return frozenset({"wrapping", "permutation"}) if images else FAMILIES[self.family].symmetries

    def _check_rule(self, rule: GlassRule) -> None:
        if (rule.attention or rule.attention_threshold is not None) and not self.config.attention:
            raise ValueError(
                f"{self.name} has no attention; choose a checkpoint that has it, such as "
                "liquid_glass/dmpnn-attention-v1."
            )

    # The expensive half ---------------------------------------------------------------------------

    def run(
        self,
        frame: Frame,
        rule: GlassRule | None = None,
        *,
        device: Device = "auto",
        progress: Progress | None = None,
    ) -> GlassAnswer:
        """Run the networks on a frame.

        Parameters
        ----------
        rule : only `b` and `attention` are used
        device : "auto" or "cpu" for the compiled loops, "torch" for torch on the processor, "cuda" for torch
            on a GPU; the numbers are the same

        Raises
        ------
        ValueError
            If there are no particles or only one kind, species are unknown, units or dimensions differ from
            training, particles are too few for the neighbors or for an image, or the device is unknown.
        ImportError
            If the device needs torch and torch is not installed.
        """
        rule = self.rule() if rule is None else rule
        codes, graphs, output = self._applied(frame, rule, device)
        is_b = codes == 1
        messages = self.validity(frame, is_b)
        if graphs is None or output.nodes is None:
            each = self._probabilities(output.graphs).mean(axis=1)
            return GlassAnswer(float(each.mean()), float(each.std()), is_b, messages=messages)
        whole = self._probabilities(output.graphs[:, 0])
        of_particles, spread = mean_and_spread(self._probabilities(output.nodes))
        bonds = weight = None
        if rule.attention is not False and output.attention is not None:
            mean = output.attention.mean(axis=0)
            bonds = attention_bonds(graphs, mean, is_b)
            weight = particle_attention(graphs, mean)
        return GlassAnswer(
            float(whole.mean()), float(whole.std()), is_b, of_particles, spread, bonds, weight, messages
        )

    def _applied(
        self, frame: Frame, rule: GlassRule, device: Device
    ) -> tuple[NDArray[np.int32], Graphs | None, GlassOutput]:
        """Kinds of particles, the graph, and outputs of the networks; for images only logits."""
        network, codes = self.network(device), self.codes(frame, rule.b)
        if self.config.architecture == "cnn":
            parts = [network(images) for images in covering_images(frame, codes, self.config)]
            found = GlassOutput(np.concatenate(parts, axis=1))
            self.check_finite(frame, found.graphs)
            return codes, None, found
        graphs = graph_of(frame, self.config, codes)
        found = network(graphs)
        given = (found.graphs, found.nodes, found.attention)
        self.check_finite(frame, *(part for part in given if part is not None))
        return codes, graphs, found

    def logits(
        self, frame: Frame, rule: GlassRule | None = None, *, device: Device = "auto"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Calibrated logits of glass from each network; unlike probabilities they do not saturate at 0 or 1.

        Returns (n_members,) for the configuration and (n_members, n_atoms) for its particles, the latter None
        for images. Raises the errors of `run`.
        """
        _, _, output = self._applied(frame, self.rule() if rule is None else rule, device)
        whole = output.graphs.astype(np.float64)
        if output.nodes is None:
            return logit_of_mean(whole.T / self._temperature), None
        return whole[:, 0] / self._temperature, output.nodes.astype(np.float64) / self._temperature

    def _make(self, kind: str) -> Callable[..., Any]:
        images = self.config.architecture == "cnn"
        if kind == "cpu":
            return self._image_logits if images else Network(self.config, self.members)
        from phaseseg.families.liquid_glass.network import TorchImages, TorchNetwork

        made = TorchImages if images else TorchNetwork
        return made(self.config, self.members, device="cuda" if kind == "cuda" else "cpu")

    def _image_logits(self, images: Floats) -> Floats:
        return np.stack([image_logits(weights, images, self.config) for weights in self.members])

    def _probabilities(self, logits: Floats) -> Floats:
        # exp(80) still fits into float32.
        scaled = np.clip(logits / np.float32(self._temperature), -80, 80)
        return np.asarray(1 / (1 + np.exp(-scaled)), dtype=np.float32)

    def codes(self, frame: Frame, b: str | tuple[str, ...] | None = None) -> NDArray[np.int32]:
        """Return 0 for A and 1 for B; a ValueError for species or dimensions unknown to the networks."""
        self.check_frame(frame)
        codes = self.config.codes_of(frame, b)
        found, known = frame.n_dimensions, self.config.dimensions
        if found != known:
            names = {2: "two dimensions", 3: "three dimensions"}
            raise ValueError(
                f"{frame.error_prefix}the particles are in {names[found]}, but {self.name} was trained in "
                f"{names[known]}; choose another checkpoint."
            )
        return codes

    def validity(self, frame: Frame, is_b: NDArray[np.bool_]) -> tuple[Message, ...]:
        parts = []
        dimensions = self.config.dimensions
        if frame.pbc[:dimensions].all():
            density = number_density(frame, dimensions)
            parts += density_outside(density, self._densities, f"particles per σ^{dimensions}")
        parts += fraction_outside(float(is_b.mean()), self._fractions)
        return self.outside(parts)

    # The cheap half -------------------------------------------------------------------------------

    def fields(
        self, frame: Frame, output: GlassAnswer, rule: GlassRule | None = None, **options: Any
    ) -> Fields:
        """Compute the fields from an output; cheap to repeat with another threshold.

        Parameters
        ----------
        output : result of `run` for this frame
        rule : of a prediction; or its options as keywords

        Returns
        -------
        Fields
            Per frame `frame_glass_probability` and `frame_glass_uncertainty`. Networks on graphs add
            `glass_probability` and `glass_uncertainty` per atom, and `glass_fraction`, the fraction of
            particles at or above the threshold. Networks with attention add `attention` per atom; bonds
            `attention_bonds` with `attention` (the mean of the frame is 1), `bb`, `length` (σ) and `kept`;
            and `attention_threshold` with the counts on kept edges: `attention_n_disjoint_graphs`,
            `attention_n_bb_edges` and `attention_n_isolated_a` (see `glass_metrics`).

        The networks were trained with one label per configuration. The probability of a particle says
        whether surroundings like its own, some T + 1 edges wide, occur more often in glasses or in liquids.
        """
        rule = self.rule(**options) if rule is None else rule
        answer, p = output, output.probability
        verdict = "Glass" if p >= rule.threshold else "Liquid"
        over = f" ± {answer.uncertainty:.3f} over {self.n_members} networks" if self.n_members > 1 else ""
        sentence = f"{verdict} by {self.name}: the probability of a glass is {p:.3f}{over}."
        messages = [Message(sentence, "verdict")]
        values: dict[str, Any] = {}
        numbers: dict[str, Any] = {
            "frame_glass_probability": p, "frame_glass_uncertainty": answer.uncertainty
        }  # fmt: skip
        if answer.of_particles is not None:
            values |= {"glass_probability": answer.of_particles, "glass_uncertainty": answer.spread}
            numbers["glass_fraction"] = float(np.mean(answer.of_particles >= rule.threshold))
        if rule.attention is not False and answer.bonds is not None:
            atoms, weight = answer.bonds.atoms, answer.bonds.columns["attention"]
            cut, sentence = self._attention_cut(weight, rule)
            messages.append(Message(sentence, "attention-threshold"))
            keep = weight >= np.float32(cut)
            counts = graph_counts(frame.n_atoms, answer.is_b, atoms, keep)
            columns = {**answer.bonds.columns, "kept": keep.astype(np.int8)}
            values |= {
                "attention": answer.attention, "attention_bonds": Bonds(atoms, answer.bonds.shifts, columns)
            }  # fmt: skip
            numbers["attention_threshold"] = cut
            numbers |= {f"attention_{name}": getattr(counts, name) for name in METRICS}
        messages += self.one_network("glass")
        return Fields(values | numbers, (*frame.messages, *messages, *answer.messages))

    def _attention_cut(self, attention: Floats, rule: GlassRule) -> tuple[float, str]:
        for cut, whose in ((rule.attention_threshold, "as requested"), (self._cut, f"from {self.name}")):
            if cut is not None:
                return cut, f"The attention threshold is {cut:.3g}, {whose}."
        found = trough(attention)
        return found.threshold, found.sentence


def logit_of_mean(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logit of the mean probability along the first axis, from logits."""
    yes, no = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    return np.asarray(np.logaddexp.reduce(yes, axis=0) - np.logaddexp.reduce(no, axis=0))
