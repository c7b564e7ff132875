"""Cards: tables of plain values, pages that follow a card, weights that stay, no test on training data."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from phaseseg.checkpoint import bundled_checkpoints, load_checkpoint, save_checkpoint
from phaseseg.recipes.cards import (
    ROOT,
    markdown_table,
    refuse_training_data,
    rows_of,
    run_name,
    table,
    write_card,
)
from phaseseg.recipes.liquid_glass.cards import PAGES as GLASS, figures_of_tables
from phaseseg.recipes.liquid_glass.datasets import liquid_temperature, six_sets
from phaseseg.recipes.segmentation.cards import PAGES as SEGMENTATION
from phaseseg.recipes.segmentation.study import only_first


def melt_card():
    rows = [
        {"test": "3000 K", "boundary (Å)": 2.7, "networks": "all 3 together", "macro F1": 0.98123,
         "± macro F1": 0.0021, "boundary F1": np.float64(0.96)},
        {"test": "3000 K", "boundary (Å)": 2.7, "networks": "each of 3 alone, mean",
         "macro F1": float("nan")},
    ]  # fmt: skip
    return {
        "summary": "A network.", "limits": ["Only iron."], "split": "by run",
        "metrics": {"three_classes": table("Three classes", rows, "Note.")}, "license": "MIT",
    }  # fmt: skip


def glass_card():
    rows = [{"set": "1", "trained on": "all sets", "AUC, windows": 1.0, "accuracy, windows": 0.98,
             "AUC, whole": 1.0, "accuracy, whole": 1.0}]  # fmt: skip
    return {"summary": "A network.", "limits": ["Only iron."], "metrics": {"sets": table("Sets", rows)}}


def test_a_table_of_a_card_is_plain():
    made = melt_card()["metrics"]["three_classes"]
    assert made["columns"][:2] == ["test", "boundary (Å)"]
    assert made["rows"][0][3:] == [0.98123, 0.0021, 0.96] and made["rows"][1][3:] == [None, None, None]
    lines = markdown_table(made["columns"], made["rows"])
    assert lines[0] == "| test | boundary (Å) | networks | macro F1 | boundary F1 |"
    assert lines[2].startswith("| 3000 K | 2.7 | all 3 together | 0.9812 ± 0.002 | 0.96 |")
    assert lines[3].endswith("| – | – |")


def test_a_card_is_replaced_and_the_weights_stay(make_checkpoint, tmp_path):
    path = tmp_path / "share-v1.safetensors"
    before = make_checkpoint(n_members=2)
    save_checkpoint(before, path)
    after = write_card(load_checkpoint(path), melt_card(), path)
    assert after.card["limits"] == ["Only iron."] and after.config == before.config
    assert all(np.array_equal(after.weights[key], before.weights[key]) for key in before.weights)
    one = only_first(after)
    assert len(one.config["score"]["scale"]) == 1 and not any("member1" in key for key in one.weights)


@pytest.mark.parametrize(
    ("pages", "card", "row"),
    [(SEGMENTATION, melt_card, "0.9812 / 0.96"), (GLASS, glass_card, "| 1 | 0.98 |")],
)
def test_pages_and_table(pages, card, row, make_checkpoint, make_glass_checkpoint, tmp_path):
    checkpoint = (make_checkpoint if pages is SEGMENTATION else make_glass_checkpoint)()
    checkpoint.card.update(card())
    stem = checkpoint.name.split("/")[1]
    before = (ROOT / "models" / "README.md").read_text("utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(before, "utf-8")
    figure = tmp_path / "docs" / "figures" / f"{stem}-{next(iter(pages.captions))}.png"
    figure.parent.mkdir(parents=True)
    figure.touch()
    for _ in range(2):  # a second time changes nothing
        pages.render([checkpoint], tmp_path / "docs", readme)
        text = readme.read_text("utf-8")
        marks = [text.index(f"<!-- {pages.mark}: "), text.index(f"<!-- end of {pages.mark} -->")]
        assert row in text[slice(*marks)] and text[: marks[0]] == before[: marks[0]]
        assert text[marks[1] :] == before[-len(text[marks[1] :]) :]
    page = (tmp_path / "docs" / f"{stem}.md").read_text("utf-8")
    assert f"# {checkpoint.name}" in page and "- Only iron." in page and f"](figures/{figure.name})" in page
    assert f"\n{stem}\n" in (tmp_path / "docs" / "index.md").read_text("utf-8")


def test_training_data_are_no_test_data(make_checkpoint):
    checkpoint = make_checkpoint()
    files = [["large_3000K.dump.gz"], ["slow/ka2d_s003.inherent.xyz.gz"]]
    checkpoint.card["data"] = {"files": {"columns": ["file"], "rows": files}}
    refuse_training_data(checkpoint, ["large_4000K", run_name(Path("x/fast/ka2d_s003.xyz.gz").as_posix())])
    with pytest.raises(SystemExit, match="was trained on large_3000K"):
        refuse_training_data(checkpoint, ["large_3000K", "large_4000K"])
    with pytest.raises(SystemExit, match="was trained on slow/ka2d_s003"):
        refuse_training_data(checkpoint, [run_name("x/slow/ka2d_s003.xyz.gz")])


def test_curves_of_a_glass_card_are_its_tables_and_have_different_markers():
    checkpoint = load_checkpoint(bundled_checkpoints("liquid_glass")["liquid_glass/dmpnn-v1"])
    figures = figures_of_tables(checkpoint)
    assert set(figures) == {"edge", "temperature"}
    rows = rows_of(checkpoint.card["metrics"]["edge"])
    lines = {line.get_label(): line for line in figures["edge"].axes[0].lines}
    markers = {line.get_marker() for name, line in lines.items() if name in rows[0]}
    assert len(markers) == 6
    for name in six_sets(1, 2, 0.7):
        assert_array_equal(lines[name.name].get_ydata(), [row[name.name] for row in rows])
        assert liquid_temperature(name.name) == name.liquid.temperature
    rows = rows_of(checkpoint.card["metrics"]["temperature"])
    curves = [line for line in figures["temperature"].axes[0].lines if line.get_marker() in ("o", "s")]
    for line, key in zip(curves, ("cell", "mean of particles"), strict=True):
        assert_array_equal(line.get_ydata(), [row[key] for row in reversed(rows)])
