"""The training sets of tantalum and iron that clusters and selections are measured on.

They are not bundled: `ta.xyz.gz` and `fe.xyz.gz` are in the folder `mlff` of `PHASESEG_DATA`. Ta: Thompson et
al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018. Fe: Nikolov et al., npj Comput. Mater.
7, 153 (2021), doi:10.1038/s41524-021-00617-2.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phaseseg.families.environments.dataset import DataSet, read_data_set


def data_file(name: str) -> Path:
    """Path of `ta` or `fe` in the folder `mlff` of `PHASESEG_DATA`; it may be missing."""
    return Path(os.environ.get("PHASESEG_DATA", ".")) / "mlff" / f"{name}.xyz.gz"


def read_set(name: str) -> DataSet:
    """Read the set `ta` or `fe`. FileNotFoundError where it is missing."""
    path = data_file(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file. Let PHASESEG_DATA name the folder with mlff/."
        )
    return read_data_set(path)


def tags_of(data: DataSet) -> NDArray[np.int64]:
    """(n_atoms,) number of the group of each atom, by name."""
    assert data.groups is not None
    return np.asarray(np.unique(data.groups, return_inverse=True)[1][data.configurations])


def sample_by_group(data: DataSet, most: int, seed: int = 0) -> NDArray[np.int64]:
    """Sorted numbers of at most `most` atoms of each group, drawn at random."""
    rng = np.random.default_rng(seed)
    tags = tags_of(data)
    chosen = [rng.permutation(np.flatnonzero(tags == tag))[:most] for tag in range(tags.max() + 1)]
    return np.sort(np.concatenate(chosen))
