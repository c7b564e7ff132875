"""Settings of a training as every family declares them, and the classes of both families."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, dataclass, fields

import pytest

from phaseseg.families import FAMILIES
from phaseseg.families.liquid_glass.settings import GlassSettings
from phaseseg.families.segmentation.settings import RECIPE, RECIPE_RULE, TRAINING, SegmentationSettings
from phaseseg.training.settings import check_choices, setting

BETWEEN = {"glass_below": 0.1, "liquid_above": 1.0}


def test_a_field_carries_what_its_flag_needs():
    @dataclass(frozen=True)
    class Mine:
        depth: int = setting(help="How deep.", flag="-d", multiple=True)
        kind: str | None = setting(None, help="soft | hard", choices=("soft", "hard"))

    depth, kind = fields(Mine)
    assert depth.default is MISSING and kind.default is None
    assert depth.metadata["flag"] == "-d" and depth.metadata["multiple"] and not kind.metadata["flag"]
    check_choices(Mine(2))
    with pytest.raises(ValueError, match="kind must be soft or hard, found 'stiff'"):
        check_choices(Mine(2, "stiff"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_has_its_help(family):
    for entry in fields(FAMILIES[family].settings):
        assert entry.metadata["help"].endswith(".") or "|" in entry.metadata["help"], entry.name


def test_declarations_are_light():
    code = (
        "import sys; from phaseseg.families import FAMILIES; [f.settings for f in FAMILIES.values()]"
        "; assert not {'numpy', 'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_defaults_are_the_recipe():
    options = SegmentationSettings().fit_options()
    assert options["rule"] == RECIPE_RULE
    assert options["network"] == {**RECIPE, "counter": (), "outputs": 2}
    assert {name: options[name] for name in TRAINING} == TRAINING
    options = GlassSettings(**BETWEEN, k=3).fit_options()
    assert options["network"] == {"architecture": "dmpnn", "species": ("A", "B"), "k": 3}
    assert options["units"] == "metal" and options["learning_rate"] is options["validation"] is None


@pytest.mark.parametrize(
    ("settings", "changes", "sentence"),
    [
        (SegmentationSettings, {"architecture": "mlp"}, "architecture must be gat, gcn or graphconv"),
        (SegmentationSettings, {"features": "raw"}, "features must be counts or densities"),
        (SegmentationSettings, {"widths": (1, -2)}, "widths must be positive lengths"),
        (SegmentationSettings, {"loss": "mse"}, "loss must be distance or class"),
        (SegmentationSettings, {"members": 0}, "members must be at least 1"),
        (SegmentationSettings, {"epochs": 0}, "epochs must be at least 1"),
        (SegmentationSettings, {"every": 0}, "every must be at least 1"),
        (SegmentationSettings, {"sigma": -1}, "sigma must be a positive length"),
        (GlassSettings, {"architecture": "cnn", "k": 3}, "k is a setting of the architecture dmpnn"),
        (GlassSettings, {"pool": 2}, "pool is a setting of the architecture cnn"),
        (GlassSettings, {"units": "metal"}, "units must be lj, found 'metal'"),
        (GlassSettings, {"learning_rate": 0.0}, "learning_rate must be a positive number"),
        (GlassSettings, {"search": -1}, "search must be a number of trials"),
        (GlassSettings, {"search": 1, "validation": ("a",)}, "a search validates on folds"),
    ],
)
def test_settings_out_of_range(settings, changes, sentence):
    needed = BETWEEN if settings is GlassSettings else {}
    with pytest.raises(ValueError, match=sentence):
        settings(**needed, **changes)
