"""Make the checkpoint environments/mixture-v1: settings of a fit, and a card with what they give.

    python -m phaseseg.recipes.environments.mixture [--output FOLDER] [--seeds N]

The card holds the agreement of the clusters with the groups of two public sets, of k-means as well; where
the sets are is described in `sets`. Without them the card says that nothing was measured.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.checkpoint import Checkpoint, save_checkpoint
from phaseseg.families.environments.clusters import cluster
from phaseseg.families.environments.learn import options_of
from phaseseg.families.environments.rules import EnvironmentsRule
from phaseseg.recipes.cards import ROOT, say, table
from phaseseg.recipes.environments.sets import data_file
from phaseseg.recipes.environments.study import rows_and_tags
from phaseseg.version import __version__

NAME = "environments/mixture-v1"
BUNDLED = ROOT / "models" / "phaseseg" / "families" / "environments" / "checkpoints"
LIMITS = (
    "Labels are numbers by size within one fit, so those of two fits cannot be compared: save the fit.",
    "At least two atoms are needed, and a few hundred for clusters that mean something.",
    "The number of Gaussians is between 4 and 20, by the Bayesian information criterion.",
)
SETS = {"ta": "Ta, 4,224 atoms", "fe": "Fe, up to 900 atoms of a group"}


def measured(seeds: int) -> dict[str, Any]:
    """The table of the card: agreement with the groups, mean and range over seeds."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    rows = []
    for name, title in SETS.items():
        if not data_file(name).is_file():
            say(f"{name} is not there: {data_file(name)}")
            continue
        for method in ("mixture", "kmeans"):
            scores = []
            for seed in range(seeds):
                values, tags = rows_and_tags(name)
                found = cluster(values, method, seed=seed)
                labels = found.assign(values)
                ari, nmi = adjusted_rand_score(tags, labels), normalized_mutual_info_score(tags, labels)
                scores.append((ari, nmi, found.n_clusters))
                say(f"{name} {method} seed {seed}: ARI {ari:.3f}, NMI {nmi:.3f}, {found.n_clusters}")
            mean, spread = np.mean(scores, axis=0), np.std(scores, axis=0)
            rows.append(
                {"set": title, "method": method, "ARI": mean[0], "± ARI": spread[0], "NMI": mean[1],
                 "± NMI": spread[1], "clusters": mean[2]}
            )  # fmt: skip
    note = (
        "Agreement with the groups that the authors of the sets gave to configurations; mean ± deviation "
        f"over {seeds} seeds. The settings were chosen with these two sets in view."
    )
    return table("Groups of two public sets", rows, note)


def checkpoint_of(metrics: dict[str, Any]) -> Checkpoint:
    """The checkpoint with its card."""
    card = {
        "summary": "Finds the clusters of environments in the frames that it is used on: Gaussian mixture on "
        "principal components of power spectra.",
        "data": "None: it holds settings only, and learns from all frames that it is given.",
        "split": "None.",
        "training": "None. The settings are in the config.",
        "metrics": {"groups": metrics},
        "limits": LIMITS,
        "references": "Schwarz, Ann. Stat. 6, 461 (1978), doi:10.1214/aos/1176344136; Bartók, Kondor, "
        "Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115.",
        "license": "MIT",
        "made_with": f"phaseseg {__version__}, python -m phaseseg.recipes.environments.mixture",
    }  # fmt: skip
    options = options_of(EnvironmentsRule())
    weights = {"atoms": np.zeros(1, dtype=np.float32)}  # it was fitted on none
    return Checkpoint("environments", NAME, {"clusters": None, "options": options}, weights, card)


def main() -> None:
    """Measure and write the checkpoint."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=BUNDLED)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        checkpoint_of(measured(chosen.seeds)), chosen.output / f"{NAME.split('/')[1]}.safetensors"
    )


if __name__ == "__main__":
    main()
