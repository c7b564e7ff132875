"""Two liquids, atom by atom: weak labels from a density, and graph networks trained on them."""

from __future__ import annotations

from pathlib import Path

from phaseseg.families import Analysis, Family, Option, register
from phaseseg.families.segmentation.fields import FIELDS
from phaseseg.families.segmentation.rules import PredictionRule
from phaseseg.families.segmentation.settings import SegmentationSettings

OPTIONS = (
    Option(
        "threshold", float, PredictionRule.threshold, "Probability from which on an atom is rich.",
        low=0, high=1, open=True, label="Threshold (probability)", group="Phases",
    ),
    Option(
        "keep", str, PredictionRule.keep,
        "Rich domains to keep: all of at least the smallest volume, or only the largest.",
        choices=("all", "largest"), label="Domains kept", group="Phases",
    ),
    Option(
        "min_volume", float, None, "Smallest rich domain, Å^3; by default that of the training.",
        low=0, label="Smallest domain (Å³; none = as trained)", group="Phases",
    ),
    Option(
        "boundary", str, PredictionRule.boundary,
        "interface | voxels (as in the paper) | learned (where the network has it)",
        choices=("interface", "voxels", "learned"), label="Boundary", group="Interface",
    ),
    Option(
        "boundary_width", float, None, "Thickness of the boundary, Å; by default that of the training.",
        low=0, label="Boundary width (Å; none = as trained)", group="Interface",
    ),
    Option(
        "bulk_distance", float, PredictionRule.bulk_distance,
        "Distance from the interface at which the bulk of a phase begins, Å.",
        low=0, label="Bulk begins at (Å)", group="Interface",
    ),
    Option(
        "reference", str, "weak",
        "weak: labels by the rule of the checkpoint; or a column of the files with 0 poor, 1 rich and, if "
        "there are any, 2 boundary.",
        part="evaluate",
    ),
    Option(
        "boundary_width", float, None,
        "Thickness of the boundary, Å; may be repeated. 2.7 and 0.68 if left out.",
        part="evaluate", low=0, multiple=True,
    ),
    Option("baselines", bool, False, "Also methods without a network, for comparison.", part="evaluate"),
    Option(
        "baseline_data", Path, None, "Trajectory that the baselines are fitted to; may be repeated.",
        part="evaluate", multiple=True,
    ),
    Option("members", bool, False, "Also every network of the checkpoint alone.", part="evaluate"),
)  # fmt: skip

FAMILY = register(
    Family(
        name="segmentation",
        title="Two liquids",
        status="stable",
        units=("metal",),
        default="segmentation/gat-v1",
        fields=FIELDS,
        options=OPTIONS,
        settings=SegmentationSettings,
        symmetries=frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"}),
        invariant=("phase_probability", "phase_uncertainty", "mean_uncertainty"),
        check="phaseseg.families.segmentation.checks:check",
        model="phaseseg.families.segmentation.model:SegmentationModel",
        fit="phaseseg.families.segmentation.fit:fit_segmentation",
        graph="phaseseg.families.segmentation.network:GraphForm",
        evaluate="phaseseg.families.segmentation.evaluation:evaluate",
        summary="phaseseg.families.segmentation.report:RunSummary",
        report="phaseseg.families.segmentation.commands:training_sentences",
        commands=(
            "label=phaseseg.families.segmentation.commands:label_command",
            "select=phaseseg.families.segmentation.commands:select_command",
        ),
        demo="phaseseg.families.segmentation.commands:demo",
        analyses=(
            Analysis("species", "phaseseg.families.segmentation.labels.weak_labels:labeler", default=True),
        ),
    )
)
