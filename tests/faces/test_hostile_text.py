"""Text from the input may contain the markup of HTML, rich, matplotlib and terminals: it stays text."""

from __future__ import annotations

import dataclasses
import os
from html.parser import HTMLParser

import numpy as np
import pytest

from faces.command_line import flat, melt, run
from phaseseg.checkpoint import save_checkpoint
from phaseseg.families import FAMILIES
from phaseseg.terminal import show
from samples import cooled

WORDS = ("<b>x", "[/red]", "$\\frac{$", "_y", "&lt;", "\"q'", "[link=file:z]", "</script><w")
PLAIN = tuple(f"N{number}" for number in range(len(WORDS)))
DEFAULT = FAMILIES["segmentation"].default
TRAJECTORIES = "<i>[bold]$_&'\".xyz"


class Skeleton(HTMLParser):
    """Tags with their attributes' names, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(" ".join([tag, *(name for name, _ in attrs)]))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data


def marked(frame, words):
    """The frame with further species in place of some O."""
    names = [*frame.species_names, *words]
    symbols = np.array(names, dtype=object)[frame.species]
    oxygen = np.flatnonzero(symbols == "O")
    for k, word in enumerate(words):
        symbols[oxygen[k :: 3 * len(words)]] = word
    return frame.replace(species=symbols.astype(str), species_names=tuple(names))


def write_raw(path, frames, key=""):
    """Extended XYZ with any names; ours refuses some of them."""
    text = ""
    for frame in frames:
        lattice = " ".join(map(str, frame.cell.ravel()))
        text += f'{len(frame)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3{key}\n'
        names = np.array(frame.species_names)[frame.species]
        rows = zip(names, frame.positions.tolist(), strict=True)
        text += "".join(f"{name} {x} {y} {z}\n" for name, (x, y, z) in rows)
    path.write_text(text, encoding="utf-8")
    return path


def page_of(folder):
    return Skeleton((folder / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Output and report of `phaseseg label` with plain and with hostile words."""
    found = []
    for name, words in (("plain.xyz", PLAIN), (TRAJECTORIES, WORDS)):
        folder = tmp_path_factory.mktemp("pages")
        path = write_raw(folder / name, [marked(melt(seed), words) for seed in (0, 1)])
        species = f"Fe,{words[1]},{words[0]},{words[2]}"
        result = run(
            "label", path, "--species", species, "--phases", 2, "--report", folder,
            "--boundary-width", 1, "-o", folder / "out.json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found.append((result, page_of(folder)))
    return found


@pytest.mark.slow
def test_html_has_the_same_tags_whatever_the_names(pages):
    (_, plain), (_, hostile) = pages
    assert hostile.tags == plain.tags
    for word in (*WORDS, TRAJECTORIES):
        assert word in hostile.text


@pytest.mark.slow
def test_tables_and_notes_show_the_names_as_they_are(pages):
    result, _ = pages[1]
    for word in WORDS:
        assert word in flat(result.stdout), word
    assert TRAJECTORIES in flat(result.stdout)
    assert "[/red]" in flat(result.stderr)


# Every command, with a checkpoint whose name and card are hostile


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_checkpoint):
    """A network for Fe and O, with hostile entries in its card."""
    made = make_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"))
    table = {"columns": [WORDS[0], WORDS[1]], "rows": [[WORDS[2], WORDS[7]]], "note": WORDS[6]}
    card = {"summary": WORDS[1], WORDS[6]: WORDS[7], "table": table, "list": [*WORDS, {WORDS[1]: WORDS[0]}]}
    path = tmp_path_factory.mktemp("model") / "[b]$_<i>.safetensors"
    save_checkpoint(dataclasses.replace(made, card=card), path)
    return path


@pytest.fixture(scope="module")
def melts(tmp_path_factory):
    """A trajectory with hostile keys, and a name with control characters and bytes that are no text."""
    name = os.fsdecode(b"\x1b[31m\xff[i]<s>$_.xyz")
    path = tmp_path_factory.mktemp("melts") / name
    return write_raw(path, [melt(seed) for seed in (0, 1)], " [bold]=1.5 <s>=2 $\\frac{$=3 _y=4")


def well_said(result, *words, code=0):
    said = flat(result.stdout + result.stderr)
    assert result.exit_code == code and "\x1b" not in said, said
    for word in words:
        assert word in said, word


def test_commands_about_checkpoints(model):
    well_said(run("models", "show", model), *WORDS)
    well_said(run("models", "verify", model), "[b]$_<i>")
    damaged = model.with_name("[b]x.safetensors")
    damaged.write_bytes(model.read_bytes()[:-3])
    well_said(run("models", "verify", damaged), "[b]x", code=1)
    well_said(run("models", "show", "[/b]\x1b[31m"), "[/b]", code=3)


@pytest.mark.slow
def test_predictions_and_evaluations(model, melts, tmp_path):
    well_said(run("predict", melts, "-m", model, "--report", tmp_path, "-o", tmp_path / "o.json"), "[i]<s>$_")
    assert "[i]<s>$_" in page_of(tmp_path).text
    well_said(run("evaluate", melts, "-m", model, "--report", tmp_path, "--baselines"), "[i]<s>$_")
    page = page_of(tmp_path)
    assert "[i]<s>$_" in page.text and not {"s", "i"} & set(page.tags)
    well_said(run("select", melts, melts, "-m", model, "-n", 1, "-o", tmp_path / "o.csv"), "[i]<s>$_")


@pytest.mark.slow
def test_metrics_of_hostile_runs(tmp_path):
    paths = [write_raw(tmp_path / f"[b]<s>$_{seed}.xyz", cooled(seed), " [/i]=1.5") for seed in (0, 1)]
    folder = tmp_path / "report"
    result = run("metrics", *paths, "--temperature", "[/i]", "--report", folder, "-o", tmp_path / "o.csv")
    well_said(result)
    assert "s" not in page_of(folder).tags
    well_said(run("metrics", paths[0], "--temperature", "[/i]", "--report", folder), "[b]<s>$_0")
    assert "[b]<s>$_0" in page_of(folder).text
    well_said(run("metrics", *paths, "--temperature", "[/j]"), "[/j]", "[/i]", code=3)


@pytest.mark.slow
def test_refusals_repeat_hostile_arguments(tmp_path, melts):
    for word in ("[/red]", "<b>", "$x$", "\x1b[31m"):
        for arguments in (
            ("label", tmp_path / f"{word.replace('/', '')}.xyz"), ("label", melts, "--species", word),
            ("label", melts, "--keep", word), ("label", melts, "--frames", word),
            ("predict", melts, "-m", word), ("evaluate", melts, "-m", DEFAULT, "--reference", word),
        ):  # fmt: skip
            result = run(*arguments)
            assert result.exit_code in (2, 3) and "\x1b" not in result.stderr, result.stderr
            assert word == "\x1b[31m" or word.replace("/", "") in flat(result.stderr).replace("/", "")


def test_progress_shows_names_as_they_are():
    from rich.console import Console

    bar = show.FrameBar("[/b]\x1b[31m.xyz")
    console = Console(force_terminal=True, width=100, color_system=None)
    with show.Progress(show.TextColumn("{task.description}", markup=False), console=console) as shown:
        bar._bar = shown
        with console.capture() as text:
            list(bar.frames([1], "labeling"))
    assert "\x1b[31m" not in text.get()


def test_the_fraction_is_seen_in_a_narrow_terminal():
    from rich.console import Console

    console = Console(force_terminal=True, width=50, color_system=None)
    with show.Progress(show.TextColumn("{task.description}", markup=False), console=console) as shown:
        bar = show.FrameBar("liquid.xyz", shown)
        for _ in bar.frames([1], "predicting with mobility/net-ka3d-v1"):
            bar.inside(0.42, "minimizing, largest force 3.1")
            with console.capture() as text:
                console.print(shown)
    assert "42%" in text.get()
