"""Complete the cards of MEAGraph and of the embedding with what was measured, and make the pages.

    python -m phaseseg.recipes.environments.cards --nets FOLDER [--output FOLDER] [--render-only]

`--nets` is the folder of the steps `train`, `study_meagraph` and `study_contrast`. Pages: docs/checkpoints/
and the table of models/README.md, for all checkpoints of the family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phaseseg.checkpoint import SUFFIX, Checkpoint, bundled_checkpoints, load_checkpoint
from phaseseg.recipes.cards import ROOT, Pages, arguments, cell, last, rows_of, say, table, write_card
from phaseseg.recipes.environments.train import CONTRAST as CONTRAST_NAME, NAME, path_of
from phaseseg.version import __version__

BUNDLED = ROOT / "models" / "phaseseg" / "families" / "environments" / "checkpoints"
SOURCE = (
    "363 configurations of tantalum of the FitSNAP example Ta_Linear_JCP2014: A. P. Thompson et al., J. "
    "Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018. The set does not come with phaseseg."
)
METHOD = "H. Sun, J. A. Vita, A. Samanta, V. Lordi, arXiv 2509.12358 (2025)"
METHODS = ("raw threshold", "untrained", "trained")
NOT_BETTER = (
    "The trained network is not better than one with random weights, and neither is better than its graph at "
    "a raw threshold. The mixture of environments/mixture-v1 agrees better with the groups."
)
ONE_ELEMENT = (
    "It was trained on tantalum, with the power spectrum of one element at its defaults. Other elements need "
    "a network of their own: phaseseg train environments."
)
CONTRAST = (
    "A network that is trained by contrast between configurations is better than its graph; see decision "
    "record 0022."
)
LIMITS = [
    NOT_BETTER,
    CONTRAST,
    "The rate was chosen among six for the agreement with the groups of the same set.",
    "Clusters are connected components: a few atoms between two groups join them.",
    ONE_ELEMENT,
]


def over_seeds(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Mean of some columns, and the deviation if there are several rows."""
    found: dict[str, Any] = {"seeds": len(rows)}
    for name in names:
        values = [float(row[name]) for row in rows]
        found[name] = float(np.mean(values))
        if len(values) > 1:
            found[f"± {name}"] = float(np.std(values, ddof=1))
    return found


def groups_table(study: Mapping[str, Any]) -> dict[str, Any]:
    """Agreement of the clusters with the groups, best rate, trained, untrained and raw side by side."""
    rows = []
    for name, n_atoms in study["atoms"].items():
        for method in METHODS:
            own = [one for one in study["clusters"]
                   if (one["set"], one["method"], one["at"]) == (name, method, "best")]  # fmt: skip
            if own:
                rates = ", ".join(dict.fromkeys(f"{one['rate']:g}" for one in own))
                rows.append(
                    {"set": f"{name}, {n_atoms:,} atoms", "method": method, "rate": rates,
                     **over_seeds(own, ("ARI", "NMI", "clusters", "isolated"))}
                )  # fmt: skip
    note = (
        "Adjusted Rand index and normalized mutual information with the groups of configurations, which are "
        "not the truth; isolated atoms count as clusters of their own. Each method has the rate, or the raw "
        "threshold, that is best for the groups. The networks were trained on Ta; of Fe, at most 900 atoms "
        "of each group were drawn."
    )
    return table("Trained, untrained and raw threshold", rows, note)


def stability_table(study: Mapping[str, Any]) -> dict[str, Any]:
    """Agreement of clusters of the same atoms in the whole set and in a part of it."""
    rows = []
    for part in dict.fromkeys(one["part"] for one in study["stability"]):
        for method in METHODS:
            own = [one for one in study["stability"] if (one["part"], one["method"]) == (part, method)]
            if own:
                rows.append({"part": part, "method": method, **over_seeds(own, ("batch", "fitted"))})
    note = (
        "Adjusted Rand index of the clusters of the same Ta atoms in a part of the set and in the whole set, "
        "with norms and ranges of the part (batch, as in the published code) and those of the whole set "
        "(fitted)."
    )
    return table("Stability", rows, note)


SPACES = {"raw": "raw columns", "components": "components", "embedding": "embedding"}
DRAWN_TOGETHER = (
    "Groups are labels of configurations, and the embedding draws the atoms of a configuration together, for "
    "example those at a surface and those below it. Clusters of single environments may suffer from that."
)
THRESHOLDS = (
    "A threshold that was chosen on one half failed on the other in one of five splits of each set; a "
    "mixture or a tree needs none."
)
CONTRAST_LIMITS = [
    "On the set of iron, embeddings trained in the same way did not help the mixture (table).",
    DRAWN_TOGETHER,
    THRESHOLDS,
    ONE_ELEMENT.replace("phaseseg train environments", "phaseseg train environments --objective contrast"),
]


def contrast_table(study: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Agreement with the groups on halves that were not trained on, with and without the embedding."""
    rows = []
    for name in dict.fromkeys(one["set"] for one in study):
        for space, title in SPACES.items():
            row: dict[str, Any] = {"set": name, "space": title}
            for method in ("threshold", "tree", "communities", "mixture"):
                own = [one for one in study
                       if (one["set"], one["space"], one["method"]) == (name, space, method)]  # fmt: skip
                if own:
                    found = over_seeds([{method: one["ARI"]} for one in own], (method,))
                    row |= {"splits": found.pop("seeds"), **found}
            rows.append(row)
    note = (
        "Adjusted Rand index with the groups of configurations, mean ± deviation over halvings by "
        "configuration: embedding and clusters are fitted on one half without groups, and score on the "
        "other. Only the threshold was chosen by the groups, of the first half. Components are the principal "
        "components that the embedding reads. About twenty variants were compared on five other halvings of "
        "the same Ta configurations, so the numbers of Ta are somewhat too good; three halvings of Fe were "
        "seen before, and no setting was changed after them."
    )
    return table("With and without the embedding", rows, note)


def contrast_card(checkpoint: Checkpoint, study: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The card of the embedding."""
    old = checkpoint.card
    return {
        **{key: old[key] for key in ("summary", "split", "training")},
        "data": {**old["data"], "source": SOURCE},
        "metrics": {"groups": contrast_table(study)},
        "limits": CONTRAST_LIMITS,
        "license": "MIT",
        "citation": {
            "software": "ovito-phaseseg, CITATION.cff",
            "loss": "A. van den Oord, Y. Li, O. Vinyals, arXiv 1807.03748 (2018)",
        },
        "made_with": f"phaseseg {__version__}, python -m {PAGES.recipe}",
    }


def card_of(checkpoint: Checkpoint, study: Mapping[str, Any]) -> dict[str, Any]:
    """The new card: what training wrote, and what was measured."""
    old = checkpoint.card
    return {
        **{key: old[key] for key in ("summary", "split", "training")},
        "data": {**old["data"], "source": SOURCE},
        "metrics": {"groups": groups_table(study), "stability": stability_table(study)},
        "limits": LIMITS,
        "license": "MIT",
        "citation": {"software": "ovito-phaseseg, CITATION.cff", "method": METHOD},
        "made_with": f"phaseseg {__version__}, python -m {PAGES.recipe}",
    }


def about(checkpoint: Checkpoint) -> str:
    """A paragraph about a checkpoint."""
    if checkpoint.config.get("method") == "contrast":
        members = {key: w for key, w in checkpoint.weights.items() if key.startswith("member0.")}
        return (
            f"Three layers, {sum(w.size for w in members.values()):,} weights, on principal components of "
            f"power spectra; rows have {checkpoint.config['network']['dimensions']} numbers. Clusters are "
            "found in the frames that it is used on, by the method of the options, a mixture by default."
        )
    if checkpoint.config.get("method") != "meagraph":
        return "Settings of a fit: the clusters are found in the frames that it is used on."
    members = {key: w for key, w in checkpoint.weights.items() if key.startswith("member0.")}
    layers = " ".join(map(str, checkpoint.config["network"]["widths"]))
    return (
        f"A graph autoencoder with layers of {layers} and {checkpoint.config['network']['kernels']} kernels, "
        f"{sum(w.size for w in members.values()):,} weights, with norms and ranges of its training set. The "
        "clusters are found in the frames that it is used on."
    )


def shelf(checkpoint: Checkpoint) -> dict[str, Any]:
    """Agreement with the groups of tantalum."""
    groups = checkpoint.card.get("metrics", {}).get("groups", {"columns": (), "rows": ()})
    rows = [row for row in rows_of(groups) if str(row["set"]).startswith("Ta")]
    if checkpoint.config.get("method") == "contrast":
        own = [row for row in rows if row["space"] == "embedding"]
        without = [row for row in rows if row["space"] == "components"]
        if not own:
            return {}
        return {"ARI, new half": cell(own[0]["mixture"]), "without it": cell(without[0]["mixture"])}
    wanted = "trained" if checkpoint.config.get("method") == "meagraph" else "mixture"
    own = [row for row in rows if row["method"] == wanted]
    return {name: cell(own[0][name]) if own else None for name in ("ARI", "NMI")}


PAGES = Pages(
    recipe="phaseseg.recipes.environments.cards",
    about=about,
    captions={},
    order=("limits", "metrics", "split", "data", "training"),
    mark="environments checkpoints",
    shelf=shelf,
    note="Adjusted Rand index and normalized mutual information of clusters of tantalum with the groups of "
    "its configurations. New half: of a mixture on configurations that nothing was fitted on, with and "
    "without the embedding.",
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", type=Path, default=Path("environments-checkpoints"))
    parser.add_argument("--output", type=Path, default=BUNDLED, help="folder for the file with its card")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.render_only:
        study = json.loads((options.nets / "study-meagraph.json").read_text("utf-8"))
        checkpoint = load_checkpoint(path_of(options.nets, 0))
        write_card(checkpoint, card_of(checkpoint, study), options.output / f"{last(NAME)}{SUFFIX}")
        say(f"{NAME}: the card is written")
        measured = json.loads((options.nets / "study-contrast.json").read_text("utf-8"))
        path = options.nets / f"{last(CONTRAST_NAME)}{SUFFIX}"
        embedding = load_checkpoint(path)
        write_card(embedding, contrast_card(embedding, measured), options.output / path.name)
        say(f"{CONTRAST_NAME}: the card is written")
    if options.output == BUNDLED:
        paths = list(bundled_checkpoints("environments").values())
    else:
        paths = sorted(options.output.glob(f"*{SUFFIX}"))
    PAGES.render([load_checkpoint(path) for path in paths], options.docs, options.readme)


if __name__ == "__main__":
    main()
