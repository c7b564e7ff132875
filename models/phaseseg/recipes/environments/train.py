"""Train MEAGraph on the set of tantalum (see `sets`) with several seeds, and an embedding by contrast.

    python -m phaseseg.recipes.environments.train --output FOLDER [--seeds 5] [--epochs 60]

Seed 0 gives the checkpoint meagraph-ta-v1.safetensors. The others, meagraph-ta-v1.seedK.safetensors, show the
spread. A network takes two to four minutes on one core. The embedding, contrast-ta-v1.safetensors, takes ten
seconds. An interrupted training is continued.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from phaseseg.checkpoint import SUFFIX
from phaseseg.families.environments.fit import train_embedding, train_meagraph
from phaseseg.recipes.cards import say
from phaseseg.recipes.environments.sets import data_file

NAME = "environments/meagraph-ta-v1"
RATE = 0.8
"""Of 0.3 to 0.95 the one with the best clusters for all seeds; at 0.9, 31 % of the atoms are isolated."""
SUMMARY = (
    "Graph autoencoder MEAGraph, trained on the environments of 363 configurations of tantalum. Its clusters "
    "are not better than those of its graph without a network."
)

CONTRAST = "environments/contrast-ta-v1"
CONTRAST_SUMMARY = (
    "Embedding in which atoms of the same configuration are close, trained by contrast on 363 configurations "
    "of tantalum. On halves of that set, a mixture in it agrees much better with the groups than without it."
)


def path_of(folder: Path, seed: int) -> Path:
    """File of the network of a seed."""
    return folder / f"{NAME.split('/')[1]}{f'.seed{seed}' if seed else ''}{SUFFIX}"


def train(folder: Path, seed: int, epochs: int) -> Path:
    """Train the network of a seed unless it is there; return its file."""
    path = path_of(folder, seed)
    if not path.is_file():
        train_meagraph(
            data_file("ta"), output=path, name=NAME, rate=RATE, epochs=epochs, seed=seed,
            summary=SUMMARY, resume=True,
            progress=lambda done, text: say(f"seed {seed}, {done:.0%}: {text}"),
        )  # fmt: skip
    return path


def train_contrast_network(folder: Path) -> Path:
    """Train the embedding unless it is there; return its file."""
    path = folder / f"{CONTRAST.split('/')[1]}{SUFFIX}"
    if not path.is_file():
        train_embedding(data_file("ta"), output=path, name=CONTRAST, summary=CONTRAST_SUMMARY, resume=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    say(f"{train_contrast_network(chosen.output).name} is there.")
    for seed in range(chosen.seeds):
        say(f"{train(chosen.output, seed, chosen.epochs).name} is there.")


if __name__ == "__main__":
    main()
