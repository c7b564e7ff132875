"""The cards' own words: tables of Markdown, pages that follow the shape of a card, weights that stay."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from phaseseg.checkpoint import load_checkpoint, save_checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "models" / "recipes" / "segmentation" / "cards.py"


@pytest.fixture(scope="module")
def cards():
    spec = importlib.util.spec_from_file_location("make_cards", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_cards"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_cards"]


def a_card(cards):
    rows = [
        {"test": "3000 K", "boundary (Å)": 2.7, "networks": "all 3 together", "macro F1": 0.98123,
         "± macro F1": 0.0021, "boundary F1": np.float64(0.96)},
        {"test": "3000 K", "boundary (Å)": 2.7, "networks": "each of 3 alone, mean",
         "macro F1": float("nan")},
    ]  # fmt: skip
    return {
        "summary": "A network.", "limits": ["Only iron."], "split": "by run",
        "metrics": {"three_classes": cards.table("Three classes", rows, "Note.")}, "license": "MIT",
    }  # fmt: skip


def test_a_table_of_a_card_is_plain(cards):
    table = a_card(cards)["metrics"]["three_classes"]
    assert table["columns"][:2] == ["test", "boundary (Å)"]
    assert table["rows"][0][3:] == [0.98123, 0.0021, 0.96] and table["rows"][1][3:] == [None, None, None]
    lines = cards.markdown_table(table["columns"], table["rows"])
    assert lines[0] == "| test | boundary (Å) | networks | macro F1 | boundary F1 |"
    assert lines[2].startswith("| 3000 K | 2.7 | all 3 together | 0.9812 ± 0.002 | 0.96 |")
    assert lines[3].endswith("| – | – |")


def test_a_card_is_replaced_and_the_weights_stay(cards, make_checkpoint, tmp_path):
    path = tmp_path / "share-v1.safetensors"
    before = make_checkpoint(n_members=2)
    save_checkpoint(before, path)
    after = cards.write_card(load_checkpoint(path), a_card(cards), path)
    assert after.card["limits"] == ["Only iron."] and after.config == before.config
    assert all(np.array_equal(after.weights[key], before.weights[key]) for key in before.weights)
    one = cards.only_first(after)
    assert len(one.config["score"]["scale"]) == 1 and not any("member1" in key for key in one.weights)


def test_pages_and_shelf(cards, make_checkpoint, tmp_path):
    path = tmp_path / "share-v1.safetensors"
    save_checkpoint(make_checkpoint(), path)
    checkpoint = cards.write_card(load_checkpoint(path), a_card(cards), path)
    readme = tmp_path / "README.md"
    readme.write_text((SCRIPT.parents[2] / "README.md").read_text("utf-8"), "utf-8")
    for _ in range(2):  # a second time changes nothing
        cards.render([checkpoint], tmp_path / "docs", readme)
        text = readme.read_text("utf-8")
        assert text.count("<!-- checkpoints:") == 1 and "0.9812 / 0.96" in text
    page = (tmp_path / "docs" / "share-v1.md").read_text("utf-8")
    for words in ("# segmentation/share-v1", "- Only iron.", "### Three classes", "Note.", "by run"):
        assert words in page
    assert "share-v1" in (tmp_path / "docs" / "index.md").read_text("utf-8")


def test_training_data_are_no_test_data(cards, make_checkpoint, tmp_path):
    path = tmp_path / "share-v1.safetensors"
    save_checkpoint(make_checkpoint(), path)
    card = {"data": {"files": {"columns": ["file"], "rows": [["large_3000K.dump.gz"]]}}}
    checkpoint = cards.write_card(load_checkpoint(path), card, path)
    cards.refuse_training_data(checkpoint, ["large_4000K"])
    with pytest.raises(SystemExit, match="was trained on large_3000K"):
        cards.refuse_training_data(checkpoint, ["large_3000K", "large_4000K"])
