"""Settings of the networks of this family, and of their training; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from phaseseg.nn.config import NetworkSettings

Update = Literal["edges-first", "parallel", "nodes-first"]
Turns = Literal["rotations", "axes", "none"]

SPECIES = ("A", "B")
"""Names of the two types in a checkpoint that does not state them."""


@dataclass(frozen=True)
class BapstConfig(NetworkSettings):
    """The network of Bapst et al. (DOI 10.1038/s41567-020-0842-8): encode, exchange messages, decode.

    An edge leads from each particle to each within the cutoff. Its input is the vector between them; that of
    a particle is its type. Both are encoded. In each round the states of edges and particles are renewed from
    the present and the encoded states. All layers but the last have rectifiers.

    Parameters
    ----------
    cutoff : σ; particles closer than this are joined
    self_edges : whether an edge also leads from each particle to itself; the published network has them
    type_input : "number" (0 for A, 1 for B, as published) or "one-hot"
    width : numbers in the state of an edge or particle
    hidden : units of the first layer of each of the small networks
    rounds : message-passing rounds
    own_weights : whether every round has weights of its own; published: the rounds share them
    update : what is renewed first in a round
        "edges-first" (published): edges see the old particles, particles the sum of the new edges;
        "parallel": edges see the old particles, particles the sums of the old and of the encoded edges;
        "nodes-first": particles as in "parallel", and edges see the new particles. In the last round of the
        last two, no edge is renewed, because nothing reads it.
    decoder_layers : layers of `width` units before the output
    outputs : number of targets

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    cutoff: float = 2.0
    self_edges: bool = True
    type_input: Literal["number", "one-hot"] = "number"
    width: int = 64
    hidden: int = 64
    rounds: int = 7
    own_weights: bool = False
    update: Update = "edges-first"
    decoder_layers: int = 2
    outputs: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.cutoff <= 20:
            raise ValueError(f"cutoff must be a length between 0 and 20 σ, found {self.cutoff}.")
        for name, choices in (("type_input", ("number", "one-hot")), ("update", get_args(Update))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, found {getattr(self, name)!r}.")
        self._check_counts("width", "hidden", "rounds", "decoder_layers", "outputs")

    @property
    def n_type_inputs(self) -> int:
        """1 for the number of the type, 2 for one-hot types."""
        return 1 if self.type_input == "number" else 2

    @property
    def weights_of_round(self) -> tuple[int, ...]:
        """For each round the number of its weights."""
        return tuple(round_ if self.own_weights else 0 for round_ in range(self.rounds))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The first layer of an edge reads [edge, encoded edge, receiver, encoded, sender, encoded].

        That of a particle reads [sum of the edges, particle, encoded particle]; the sum of the old edges has
        the encoded ones next to it.
        """
        s, h = self.width, self.hidden
        shapes: dict[str, tuple[int, ...]] = {}

        def layers(name: str, *widths: int) -> None:
            for number, (inputs, outputs) in enumerate(pairwise(widths)):
                shapes[f"{name}.{number}.weight"] = (outputs, inputs)
                shapes[f"{name}.{number}.bias"] = (outputs,)

        layers("edge_encoder", 3, h, s)
        layers("node_encoder", self.n_type_inputs, h, s)
        for number in dict.fromkeys(self.weights_of_round):
            layers(f"edge_rounds.{number}", 6 * s, h, s)
            layers(f"node_rounds.{number}", (3 if self.update == "edges-first" else 4) * s, h, s)
        layers("decoder", *[s] * (self.decoder_layers + 1), self.outputs)
        return shapes


TER: Mapping[str, Any] = {
    "type_input": "one-hot", "own_weights": True, "update": "parallel", "decoder_layers": 1,
}  # fmt: skip
"""The network of the TER report of Blavo and Torres (2023): settings of `BapstConfig`."""
