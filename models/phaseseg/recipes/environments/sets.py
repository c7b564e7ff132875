"""The training sets of tantalum and iron that clusters and selections are measured on.

They are not bundled: `ta.xyz.gz` and `fe.xyz.gz` are in the folder `mlff` of `PHASESEG_DATA`. Ta: Thompson et
al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018. Fe: Nikolov et al., npj Comput. Mater.
7, 153 (2021), doi:10.1038/s41524-021-00617-2.
"""

from __future__ import annotations

import gzip
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.frame import Frame
from phaseseg.io import read_frames


@dataclass(frozen=True, eq=False)
class Set:
    """A data set: its configurations and their groups, and which atom belongs to which configuration.

    groups : name of the group of each configuration
    configurations : (n_atoms,) int64
    """

    name: str
    frames: list[Frame]
    groups: NDArray[np.str_]
    configurations: NDArray[np.int64]

    @property
    def tags(self) -> NDArray[np.int64]:
        """(n_atoms,) number of the group of each atom, by name."""
        return np.asarray(np.unique(self.groups, return_inverse=True)[1][self.configurations])

    def features(self, descriptor: PowerSpectrum) -> NDArray[np.float64]:
        """(n_atoms, n_features), configuration by configuration."""
        return np.concatenate([descriptor(frame) for frame in self.frames])


def data_file(name: str) -> Path:
    """Path of `ta` or `fe` in the folder `mlff` of `PHASESEG_DATA`; it may be missing."""
    return Path(os.environ.get("PHASESEG_DATA", ".")) / "mlff" / f"{name}.xyz.gz"


def read_set(name: str) -> Set:
    """Read the set `ta` or `fe`. FileNotFoundError where it is missing."""
    path = data_file(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file. Let PHASESEG_DATA name the folder with mlff/."
        )
    frames = list(read_frames(path))
    counts = [frame.n_atoms for frame in frames]
    with gzip.open(path, "rt") as text:  # a frame keeps numbers of its comment line, but no words
        groups = np.array(re.findall(r"\bgroup=(\S+)", text.read()))
    return Set(name, frames, groups, np.repeat(np.arange(len(frames)), counts))


def sample_by_group(data: Set, most: int, seed: int = 0) -> NDArray[np.int64]:
    """Sorted numbers of at most `most` atoms of each group, drawn at random."""
    rng = np.random.default_rng(seed)
    tags = data.tags
    chosen = [rng.permutation(np.flatnonzero(tags == tag))[:most] for tag in range(tags.max() + 1)]
    return np.sort(np.concatenate(chosen))
