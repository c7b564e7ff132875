"""Two liquids, atom by atom: weak labels from a density, and graph networks trained on them."""

from __future__ import annotations

from pathlib import Path

from phaseseg.families import Analysis, Family, Option, Paper, register
from phaseseg.families.segmentation.fields import FIELDS
from phaseseg.families.segmentation.rules import PredictionRule
from phaseseg.families.segmentation.settings import SegmentationSettings

OPTIONS = (
    Option(
        "threshold", float, PredictionRule.threshold, "Probability at or above which an atom is rich.",
        low=0, high=1, open=True, label="Threshold (probability)", group="Phases",
    ),
    Option(
        "by", str, PredictionRule.by,
        "atom | molecule (all atoms of a molecule of up to 30 go where its center of mass is) | auto (by "
        "molecule if most atoms are in such molecules)",
        choices=("auto", "atom", "molecule"), label="Phases by", group="Phases",
    ),
    Option(
        "keep", str, PredictionRule.keep,
        "Rich domains to keep: all that reach the smallest volume, or only the largest.",
        choices=("all", "largest"), label="Domains kept", group="Phases",
    ),
    Option(
        "min_volume", float, None, "Volume of the smallest rich domain, Å^3; by default as in training.",
        low=0, label="Smallest domain (Å³; none = as trained)", group="Phases",
    ),
    Option(
        "boundary", str, PredictionRule.boundary,
        "interface | voxels (as in the paper) | learned (if the network predicts a boundary class)",
        choices=("interface", "voxels", "learned"), label="Boundary", group="Interface",
    ),
    Option(
        "boundary_width", float, None, "Thickness of the boundary, Å; by default as in training.",
        low=0, label="Boundary width (Å; none = as trained)", group="Interface",
    ),
    Option(
        "bulk_distance", float, PredictionRule.bulk_distance,
        "Distance from the interface at which the bulk of a phase begins, Å.",
        low=0, label="Bulk begins at (Å)", group="Interface",
    ),
    Option(
        "reference", str, "weak",
        "weak: labels made by the rule of the checkpoint; or the name of a column of the files with 0 for "
        "poor, 1 for rich and, optionally, 2 for boundary.",
        part="evaluate",
    ),
    Option(
        "boundary_width", float, None,
        "Thickness of the boundary, Å; may be repeated. Default: 2.7 and 0.68.",
        part="evaluate", low=0, multiple=True,
    ),
    Option("baselines", bool, False, "Also evaluate methods without a network.", part="evaluate"),
    Option(
        "baseline_data", Path, None, "Trajectory to fit the baselines to; may be repeated.",
        part="evaluate", multiple=True,
    ),
    Option("members", bool, False, "Also evaluate each network individually.", part="evaluate"),
)  # fmt: skip

PAPERS = (
    Paper(
        "shakya2025weakly", ("S. Shakya", "B. B. Karki"),
        "Weakly Supervised Graph Neural Networks for Scalable 3D Phase Segmentation in Molecular Dynamics "
        "Simulations", 2025, "Proceedings of the 17th International Joint Conference on Knowledge Discovery, "
        "Knowledge Engineering and Knowledge Management (KDIR)", "1", "302-312",
        doi="10.5220/0013709400004000", kind="inproceedings",
    ),
)  # fmt: skip

FAMILY = register(
    Family(
        name="segmentation",
        title="Two liquids",
        status="stable",
        units=("metal",),
        default="segmentation/gat-v1",
        fields=FIELDS,
        papers=PAPERS,
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
        slabs="phaseseg.families.segmentation.prediction_in_slabs:predict_slabs",
        demo="phaseseg.families.segmentation.commands:demo",
        analyses=(
            Analysis("species", "phaseseg.families.segmentation.labels.weak_labels:labeler", default=True),
        ),
    )
)
