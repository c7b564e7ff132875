"""Mobility of the particles of a supercooled liquid from their structure."""

from __future__ import annotations

from phaseseg.families import Family, Option, Paper, register
from phaseseg.families.mobility.fields import FIELDS
from phaseseg.families.mobility.rules import MobilityRule
from phaseseg.families.mobility.settings import MobilitySettings

OPTIONS = (
    Option(
        "b", tuple, None, "Species B, separated by commas; all others are A. By default as in training.",
        part="run", label="Species B (empty: as trained)", group="Species", placeholder="B",
    ),
    Option(
        "temperature", float, None,
        "Temperature (ε/k) for runs of the cages; by default that in the comment line of the frame.",
        part="run", low=0, open=True, label="Temperature (none: from the file)", group="Structure",
    ),
    Option(
        "potential", str, None,
        "File with the table of a Lennard-Jones mixture (JSON or text); by default that of the checkpoint.",
        part="run", label="Potential (empty: as trained)", group="Structure", placeholder="table.json",
    ),
    Option(
        "seed", int, MobilityRule.seed, "Seed of the runs of the cages.", part="run", low=0, label="Seed",
        group="Structure",
    ),
    Option(
        "target", str, None,
        "Quantity to predict, of those that the checkpoint was trained for; by default the first.",
        label="Quantity (empty: the first)", group="Mobility",
    ),
    Option(
        "time", float, None, "Time of the propensity, of those of the checkpoint; by default the first.",
        low=0, open=True, label="Time (none: the first)", group="Mobility",
    ),
    Option(
        "mobile_share", float, MobilityRule.mobile_share,
        "Share of the particles of each type that are mobile.",
        low=0, high=1, open=True, label="Share of mobile particles", group="Mobility",
    ),
    Option(
        "target", str, None,
        "Column of the frames to compare with, by default the first quantity of the checkpoint; NAME_1, "
        "NAME_2, ... hold further times.",
        part="evaluate",
    ),
    Option(
        "baselines", bool, False, "Also correlate single descriptors of the structure, without any training.",
        part="evaluate",
    ),
    Option(
        "b", tuple, None, "Species B, separated by commas; all others are A. By default as in training.",
        part="evaluate",
    ),
    Option(
        "cage_temperature", float, None,
        "Temperature (ε/k) for runs of the cages; by default that in the comment line of the frame.",
        part="evaluate", low=0, open=True,
    ),
    Option(
        "potential", str, None,
        "File with the table of a Lennard-Jones mixture (JSON or text); by default that of the checkpoint.",
        part="evaluate",
    ),
)  # fmt: skip

PAPERS = (
    Paper(
        "bapst2020unveiling",
        ("V. Bapst", "T. Keck", "A. Grabska-Barwińska", "C. Donner", "E. D. Cubuk", "S. S. Schoenholz",
         "A. Obika", "A. W. R. Nelson", "T. Back", "D. Hassabis", "P. Kohli"),
        "Unveiling the predictive power of static structure in glassy systems", 2020, "Nature Physics", "16",
        "448-454", doi="10.1038/s41567-020-0842-8",
    ),
    Paper(
        "boattini2021averaging", ("E. Boattini", "F. Smallenburg", "L. Filion"),
        "Averaging Local Structure to Predict the Dynamic Propensity in Supercooled Liquids", 2021,
        "Physical Review Letters", "127", "088007", doi="10.1103/PhysRevLett.127.088007",
    ),
    Paper(
        "alkemade2023improving", ("R. M. Alkemade", "F. Smallenburg", "L. Filion"),
        "Improving the prediction of glassy dynamics by pinpointing the local cage", 2023,
        "The Journal of Chemical Physics", "158", "134512", doi="10.1063/5.0144822",
    ),
    Paper(
        "shiba2023botan", ("H. Shiba", "M. Hanai", "T. Suzumura", "T. Shimokawabe"),
        "BOTAN: BOnd TArgeting Network for prediction of slow glassy dynamics by machine learning relative "
        "motion", 2023, "The Journal of Chemical Physics", "158", "084503", doi="10.1063/5.0129791",
    ),
)  # fmt: skip

FAMILY = register(
    Family(
        name="mobility",
        title="Mobility",
        status="experimental",
        units=("lj",),
        default="mobility/net-ka3d-v1",
        fields=FIELDS,
        papers=PAPERS,
        options=OPTIONS,
        symmetries=frozenset({"translation", "wrapping", "permutation", "repetition", "rotation"}),
        invariant=(
            "propensity", "propensity_uncertainty", "inherent_displacement", "mean_propensity_a",
            "mean_propensity_b",
        ),
        model="phaseseg.families.mobility.model:MobilityModel",
        evaluate="phaseseg.families.mobility.evaluation:evaluate",
        settings=MobilitySettings,
        fit="phaseseg.families.mobility.fit:fit",
        graph="phaseseg.families.mobility.network:graph_form",
        demo="phaseseg.families.mobility.commands:demo",
        readers=("phaseseg.families.mobility.tensorflow_checkpoint:read_tensorflow",),
    )
)  # fmt: skip
