"""Make the arrays that other libraries give, for `test_validation.py`; see README.md for versions.

python tests/validation/make.py inputs        with this package
python tests/validation/make.py pyg           with this package, PyTorch and torch-geometric
python tests/validation/make.py freud         with freud-analysis alone
python tests/validation/make.py scores        with scikit-learn, scikit-image and SciPy alone
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
N, SIGMA, REACH = 24, 1.2, 6.0
NETWORKS = {
    "gat": {"architecture": "gat", "hidden": 4, "heads": 3, "layers": 2, "readout": 8},
    "gcn": {"architecture": "gcn", "hidden": 6, "layers": 2},
    "graphconv": {"architecture": "graphconv", "hidden": 6, "layers": 1},
}


def save(name: str, **arrays: Any) -> None:
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


def inputs() -> None:
    """Disordered configurations: a melt in space, a liquid in the plane, random points in a skewed cell."""
    from importlib.resources import as_file, files

    from phaseseg import read_frames

    found = {}
    for name, file in (("melt", "melt_small_3000K.dump.gz"), ("liquid", "glass_ka2d_s901.xyz.gz")):
        with as_file(files("phaseseg") / "demo" / file) as path:
            frame = next(read_frames(path))
        found |= {f"{name} positions": frame.positions - frame.origin, f"{name} cell": frame.cell}
        found |= {f"{name} species": frame.species}
    rng = np.random.default_rng(0)
    cell = np.array([[12.0, 0.0, 0.0], [5.0, 10.0, 0.0], [-4.0, 3.0, 9.0]])
    found |= {"skewed positions": rng.random((200, 3)) @ cell, "skewed cell": cell}
    scores = rng.normal(size=400).round(1)
    found |= {"scores": scores, "labels": (scores + rng.normal(size=400) > 0).astype(int)}
    found |= {"classes": rng.integers(0, 3, 400), "guesses": rng.integers(0, 3, 400)}
    t = np.repeat(np.linspace(0.1, 2.0, 20), 5)
    found |= {"temperatures": t, "values": np.where(t > 0.8, 3 * t, 1 + t) + rng.normal(0, 0.3, t.size)}
    save("inputs", **found)


def pyg() -> None:
    """Logits of three networks on the melt from layers of PyTorch Geometric, in float64."""
    import naive
    from phaseseg import Frame
    from phaseseg.families.segmentation.settings import NetworkConfig, Scaling

    given = np.load(FOLDER / "inputs.npz")
    names = ("Fe", "Mg", "Si", "O", "N")
    codes = given["melt species"]
    frame = Frame(given["melt positions"], given["melt cell"], True, codes, names)
    rng, found = np.random.default_rng(0), {}
    for name, settings in NETWORKS.items():
        config = NetworkConfig(names, ("Fe",), ("Mg",), cutoff=4.0, **settings)
        pairs = naive.neighbor_pairs(frame, config.cutoff)
        features = naive.node_features(frame, codes, config, pairs)
        scaling = Scaling.of(features.astype(np.float32))
        weights = {
            key: (rng.normal(size=shape) / np.sqrt(10 * shape[-1])).astype(np.float32)
            for key, shape in config.weight_shapes().items()
        }
        found |= {f"{name} weights {key}": values for key, values in weights.items()}
        for part in ("center", "scale", "low", "high"):
            found[f"{name} scaling {part}"] = getattr(scaling, part)
        found[f"{name} logits"] = naive.network_logits(config, scaling, weights, features, pairs)
    save("pyg", **found)


def freud_arrays() -> None:
    """Gaussian density of Fe in the melt on a grid, and nearest neighbors of all three configurations."""
    import freud

    given, found = np.load(FOLDER / "inputs.npz"), {}
    for name, k in (("melt", 12), ("liquid", 2), ("skewed", 12)):
        cell, positions = given[f"{name} cell"], given[f"{name} positions"]
        flat = name == "liquid"
        box = freud.Box.from_matrix(cell.T, dimensions=2 if flat else 3)
        # freud has the origin in the middle of the cell.
        points = box.wrap(positions - cell.sum(axis=0) / 2)
        if flat:
            points[:, 2] = 0
        query = freud.locality.AABBQuery(box, points).query(points, {"num_neighbors": k, "exclude_ii": True})
        near = query.toNeighborList(sort_by_distance=True)
        found[f"{name} neighbors"] = near.point_indices.reshape(-1, k).astype(np.int16)
        found[f"{name} lengths"] = near.distances.reshape(-1, k).astype(np.float32)
        if name == "melt":
            density = freud.density.GaussianDensity(N, r_max=REACH, sigma=SIGMA)
            values = density.compute((box, points[given["melt species"] == 0])).density
            found["density"] = values.astype(np.float32)
    save("freud", **found)


def scores() -> None:
    """Scores and two means from scikit-learn, Otsu's cut from scikit-image, statistics from SciPy."""
    from scipy import stats
    from skimage.filters import threshold_otsu
    from sklearn import metrics
    from sklearn.calibration import calibration_curve
    from sklearn.cluster import KMeans

    given, density = np.load(FOLDER / "inputs.npz"), np.load(FOLDER / "freud.npz")["density"]
    labels, score = given["labels"], given["scores"]
    fpr, tpr, cuts = metrics.roc_curve(labels, score, drop_intermediate=False)
    found = {"fpr": fpr, "tpr": tpr, "cuts": cuts, "auc": metrics.roc_auc_score(labels, score)}
    reference, guess = given["classes"], given["guesses"]
    found["confusion"] = metrics.confusion_matrix(reference, guess)
    each = metrics.precision_recall_fscore_support(reference, guess)
    found |= dict(zip(("precision", "recall", "f1"), each, strict=False))
    found["macro f1"] = metrics.f1_score(reference, guess, average="macro")
    probability = 1 / (1 + np.exp(-score - 0.003))  # none on the edge of a bin, which belongs to either
    frequency, mean = calibration_curve(labels, probability, n_bins=10)
    found |= {"frequency": frequency, "mean probability": mean}
    centers = KMeans(2, n_init=10, tol=0, random_state=0).fit(density.reshape(-1, 1).astype(float))
    found["two means"] = np.sort(centers.cluster_centers_.ravel())
    found["otsu"] = threshold_otsu(density, nbins=1000)
    t, y = given["temperatures"], given["values"]
    for name, side in (("below", t < 0.75), ("above", t > 0.75)):
        line = stats.linregress(t[side], y[side])
        found[f"line {name}"] = np.array([line.intercept, line.slope])
    few = y[:8]
    low, high = stats.t.interval(0.9, len(few) - 1, few.mean(), stats.sem(few))
    found["interval"] = np.array([few.mean(), few.std(ddof=1), low, high])
    save("scores", **found)


if __name__ == "__main__":
    {"inputs": inputs, "pyg": pyg, "freud": freud_arrays, "scores": scores}[sys.argv[1]]()
