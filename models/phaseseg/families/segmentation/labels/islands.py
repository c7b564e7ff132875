"""Groups of atoms that nothing joins, and boxes around them packed into one small grid.

Along open axes atoms may be anywhere: a droplet, another one a micrometer away, an evaporated atom. A grid
over all of it would be mostly empty. Islands are groups of atoms too far apart to feel each other. Each is
moved into a box of its own, and the grid holds the boxes side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Islands:
    """Boxes of islands in a grid.

    of : (n_atoms,) island of each atom
    corner, size : (n_islands, 3) int64, first grid point and grid points of each box
    shift : (n_islands, 3) float64, Å, from the place of an island to that of its box
    filled : Å^3, volume of the extents of the islands
    """

    of: NDArray[np.int32]
    corner: NDArray[np.int64]
    size: NDArray[np.int64]
    shift: NDArray[np.float64]
    filled: float

    @property
    def largest(self) -> int:
        """The island with the most atoms."""
        return int(np.argmax(np.bincount(self.of)))

    def box(self, island: int, edge: int = 1) -> tuple[slice, ...]:
        """The box of an island in the grid, or in a coarser one whose points are `edge` voxels apart."""
        first, stop = self.corner[island] // edge, (self.corner[island] + self.size[island]) // edge
        return tuple(slice(a, b) for a, b in zip(first.tolist(), stop.tolist(), strict=True))
