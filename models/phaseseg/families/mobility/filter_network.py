"""The graph filter network in PyTorch, for training; `filters` gives the same numbers without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from phaseseg.families.mobility.filters import EPSILON, N_OPERATORS, Filters


class _Sums(torch.autograd.Function):
    """The compiled operators as one differentiable step."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, filters: Filters) -> Tensor:
        ctx.filters = filters
        return torch.from_numpy(filters(rows.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows = np.ascontiguousarray(gradients[0].detach().numpy())
        return torch.from_numpy(ctx.filters.transposed(rows)), None


class FilterNetwork(nn.Module):
    """h <- h + dropout(SiLU(W₀ LayerNorm(h) + Σ_k W_k S_k LayerNorm(h))); linear output over all rounds' h.

    columns : of the inputs, with the type
    outputs : two for each target: for A, for B
    """

    def __init__(self, columns: int, outputs: int, hidden: int, rounds: int, dropout: float) -> None:
        super().__init__()
        self.input = nn.Linear(columns, hidden)
        self.norm = nn.ModuleList(nn.LayerNorm(hidden, eps=EPSILON) for _ in range(rounds))
        self.own = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(rounds))
        self.sums = nn.ModuleList(nn.Linear(N_OPERATORS * hidden, hidden, bias=False) for _ in range(rounds))
        self.output = nn.Linear((rounds + 1) * hidden, outputs)
        self.dropout = dropout
        # The network starts from the mean.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Tensor, filters: Filters) -> Tensor:
        """(n, outputs) for (n, columns)."""
        h = self.input(inputs)
        every = [h]
        for norm, own, sums in zip(self.norm, self.own, self.sums, strict=True):
            y = norm(h)
            a = functional.silu(own(y) + sums(_Sums.apply(y, filters)))
            h = h + functional.dropout(a, self.dropout, self.training)
            every.append(h)
        return self.output(torch.cat(every, dim=1))  # type: ignore[no-any-return]
