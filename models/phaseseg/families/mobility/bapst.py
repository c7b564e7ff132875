"""The predictor of the message-passing network of Bapst et al."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phaseseg.checkpoint import Checkpoint
from phaseseg.families.mobility.inference import MessageNetwork
from phaseseg.families.mobility.message_graph import message_graph
from phaseseg.families.mobility.predictors import Apply, Prediction, Seen
from phaseseg.families.mobility.settings import BapstConfig
from phaseseg.nn.model import check_weights, mean_and_spread, number_of
from phaseseg.specs import Progress


class BapstPredictor:
    """Sees thermal positions only. It is not rotation invariant: networks see the vectors between particles.

    config : of the networks
    shift, scale : (n_targets, 2) for each target, of A and B: prediction = shift + scale * output
    """

    needs: frozenset[str] = frozenset()
    symmetries = frozenset({"translation", "wrapping", "permutation", "repetition"})

    def __init__(self, checkpoint: Checkpoint, members: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        settings = checkpoint.config
        self.config = BapstConfig.from_dict(settings["network"])
        check_weights(self.config.weight_shapes(), members)
        self.members = members
        n = self.config.outputs
        standard = settings.get("standard") or {"shift": [[0.0] * 2] * n, "scale": [[1.0] * 2] * n}
        self.shift, self.scale = (
            np.array(
                [[number_of(v, name, positive=name == "scale") for v in pair] for pair in standard[name]],
                dtype=np.float32,
            )
            for name in ("shift", "scale")
        )
        if not self.shift.shape == self.scale.shape == (n, 2) or len(settings["targets"]) != n:
            raise ValueError(f"{n} outputs do not fit the targets and their standardization")

    @property
    def halo(self) -> float:
        return self.config.rounds * self.config.cutoff

    def make(self, kind: str) -> Apply:
        """The networks on a device."""
        network: Any
        if kind == "cpu":
            network = MessageNetwork(self.config, self.members)
        else:
            from phaseseg.families.mobility.network import TorchMessageNetwork

            network = TorchMessageNetwork(
                self.config, self.members, device="cuda" if kind == "cuda" else "cpu"
            )

        def apply(seen: Seen, progress: Progress) -> Prediction:
            graph = message_graph(seen.frame, self.config.cutoff, self_edges=self.config.self_edges)
            return self._prediction(network(graph, seen.codes, progress), seen.codes)

        return apply

    def _prediction(self, outputs: NDArray[np.float32], codes: NDArray[np.int32]) -> Prediction:
        """From (n_members, n_atoms, n_targets)."""
        # The published network is neither shifted nor scaled: its output stays as it is to the last bit.
        moved = outputs.transpose(0, 2, 1) * self.scale[:, codes] + self.shift[:, codes]
        of_targets = [mean_and_spread(np.ascontiguousarray(moved[:, k])) for k in range(moved.shape[1])]
        mean, spread = (np.stack(part) for part in zip(*of_targets, strict=True))
        return Prediction(mean, spread)
