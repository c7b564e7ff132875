"""Liquid or glass: structural metrics, and networks on graphs and on images."""

from __future__ import annotations

from phaseseg.families import Analysis, BondFile, Family, Option, Paper, register
from phaseseg.families.liquid_glass.fields import FIELDS
from phaseseg.families.liquid_glass.rules import GlassRule
from phaseseg.families.liquid_glass.settings import GlassSettings

OPTIONS = (
    Option(
        "b", tuple, None, "Species B, separated by commas; all others are A. By default as in training.",
        part="run", label="Species B (empty: as trained)", group="Species", placeholder="B",
    ),
    Option(
        "threshold", float, GlassRule.threshold, "Lowest probability at which a configuration is a glass.",
        low=0, high=1, open=True, label="Threshold (probability)", group="Thresholds",
    ),
    Option(
        "attention_threshold", float, None,
        "Lowest attention of the edges to keep (the mean is 1); by default the trough of the distribution.",
        low=0, open=True, label="Threshold (attention; none = found)", group="Thresholds",
    ),
    Option("attention", bool, None, "Whether to output the attention of edges.", part="run", flag=None),
    Option(
        "glass_below", float, None, "Temperature at or below which a configuration is a glass.",
        part="evaluate",
    ),
    Option(
        "liquid_above", float, None, "Temperature at or above which a configuration is a liquid.",
        part="evaluate",
    ),
    Option(
        "temperature", str, "temperature", "Key of the temperature in the comment line of a frame.",
        part="evaluate",
    ),
    Option(
        "reference", str, None,
        "Instead of temperatures: key in the comment line with 1 or glass, 0 or liquid.", part="evaluate",
    ),
    Option(
        "b", tuple, None, "Species B, separated by commas; all others are A. By default as in training.",
        part="evaluate",
    ),
    Option(
        "baselines", bool, False,
        "Also score methods without a network, each fitted to all other runs (needs scikit-learn).",
        part="evaluate",
    ),
    Option("members", bool, False, "Also score each network of the checkpoint alone.", part="evaluate"),
)  # fmt: skip

PAPERS = (
    Paper(
        "swanson2020deep",
        ("K. Swanson", "S. Trivedi", "J. Lequieu", "K. Swanson", "R. Kondor"),
        "Deep learning for automated classification and characterization of amorphous materials", 2020,
        "Soft Matter", "16", "435-446", doi="10.1039/C9SM01903K", arxiv="1909.04648",
    ),
)  # fmt: skip

FAMILY = register(
    Family(
        name="liquid_glass",
        title="Liquid or glass",
        status="stable",
        units=("lj",),
        default="liquid_glass/dmpnn-attention-v1",
        fields=FIELDS,
        papers=PAPERS,
        options=OPTIONS,
        symmetries=frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"}),
        invariant=(
            "glass_probability", "glass_uncertainty", "attention", "frame_glass_probability",
            "frame_glass_uncertainty",
        ),
        check="phaseseg.families.liquid_glass.checks:check",
        settings=GlassSettings,
        model="phaseseg.families.liquid_glass.model:GlassModel",
        fit="phaseseg.families.liquid_glass.fit:fit",
        evaluate="phaseseg.families.liquid_glass.evaluation:evaluate",
        graph="phaseseg.families.liquid_glass.network:graph_form",
        summary="phaseseg.families.liquid_glass.summary:GlassSummary",
        report="phaseseg.families.liquid_glass.commands:training_sentences",
        commands=("metrics=phaseseg.families.liquid_glass.commands:metrics_command",),
        demo="phaseseg.families.liquid_glass.commands:demo",
        bond_files=(
            BondFile(
                "attention", "attention_bonds", ("attention", "bb", "kept"),
                ".csv (or .csv.gz, .csv.zst) for the edges with their attention.",
            ),
        ),
        analyses=(
            Analysis(
                "metrics", "phaseseg.families.liquid_glass.structural_metrics:measurer", takes_options=False
            ),
        ),
    )
)  # fmt: skip
