"""The README and the pages: every example runs and prints what stands there; tables agree with the code.

In a page, `python` blocks run in order in one namespace and `console` blocks (lines that begin with `$ `)
in a shell, all in one empty folder. A `text` block is what the block before it prints; `...` stands for
anything. `bash` blocks are not run.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from faces import command_line
from phaseseg.families.segmentation.rules import LabelRule

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md", "docs/quickstart.md", "docs/graph-networks.md", "docs/liquid-or-glass.md", "docs/ovito.md",
    "docs/ase.md", "docs/your-own-liquid.md", "docs/message-passing.md", "docs/mobility.md",
    "docs/environments.md", "docs/viewer.md",
]  # fmt: skip
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: str) -> list[tuple[int, str, str]]:
    """Line, language and text of every fenced block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fence = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [(text[: m.start()].count("\n") + 2, m[1], m[2]) for m in fence.finditer(text)]


def printed_by(command: str) -> str:
    """What a command prints. `phaseseg` runs in this process, which saves its imports."""
    if not command.startswith("phaseseg ") or set("|*<>&;$") & set(command):
        return in_shell(command)
    result = command_line.run(*shlex.split(command)[1:])
    assert result.exit_code == 0, f"{command}: exit code {result.exit_code}\n{result.output}"
    return result.output


def in_shell(command: str) -> str:
    # The commands of this environment first: the page says `phaseseg` and `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, shell=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def compare(where: str, expected: str, printed: str) -> None:
    if not doctest.OutputChecker().check_output(expected, printed, SAME):
        pytest.fail(f"{where}: the page says\n{expected}\nbut this was printed:\n{printed}", pytrace=False)


@pytest.mark.usefixtures("minimized_once")
@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of a page runs and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    if page == "README.md":
        shutil.copy(str(files("phaseseg") / "demo" / "melt_large_3000K.dump.gz"), "melt.dump.gz")
    if page == "docs/your-own-liquid.md":
        shutil.copytree(ROOT / "docs" / "data", ".", dirs_exist_ok=True)
    namespace: dict[str, object] = {"__name__": "page"}
    printed = None
    for line, language, text in blocks(page):
        where = f"{page}, line {line}"
        if language == "python":
            assert not printed, (
                f"{where}: the block before prints something that the page does not show:\n{printed}"
            )
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(text, where, "exec"), namespace)
            printed = output.getvalue()
        elif language == "console":
            commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
            for command, expected in (part.split("\n", 1) for part in commands):
                compare(where, expected, printed_by(command))
        elif language == "text":
            assert printed is not None, f"{where}: there is no block before that prints"
            compare(where, text, printed)
            printed = None


def test_every_page_with_examples_is_run() -> None:
    """A page with an example that is not in the list would rot."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    names = [str(page.relative_to(ROOT).as_posix()) for page in pages]
    assert {
        page for page in names if any(language in ("python", "console") for _, language, _ in blocks(page))
    } == set(PAGES)


def test_parameters_of_the_page_are_those_of_the_rule() -> None:
    """docs/weak-labels.md lists every parameter with its default."""
    page = (ROOT / "docs" / "weak-labels.md").read_text(encoding="utf-8")
    section = page.split("## Parameters")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", section, flags=re.MULTILINE))
    actual = {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in LabelRule().to_dict().items()
    }
    assert listed == actual


def test_links_between_files_exist() -> None:
    """Relative links of the README and CONTRIBUTING point to files."""
    for page in ("README.md", "CONTRIBUTING.md", "models/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_gallery_has_every_picture_with_its_command() -> None:
    """Every figure of the pages is in docs/gallery.md, and the commands there exist."""
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(figures/([\w.-]+\.png)\)", page))
    assert shown == {path.name for path in (ROOT / "docs" / "figures").glob("*.png")}
    for script in re.findall(r"`python (docs/\S+\.py)", page):
        assert (ROOT / script).exists(), script
    for module in re.findall(r"`python -m (phaseseg[\w.]+)", page):
        assert (ROOT / "models" / module.replace(".", "/")).with_suffix(".py").exists(), module
    for script in (ROOT / "docs" / "figures").glob("make_*.py"):
        assert f"docs/figures/{script.name}" in page


def test_the_page_of_the_extension_is_current() -> None:
    """`python docs/make_extension.py` would not change docs/extension.md."""
    pytest.importorskip("ovito")
    code = (
        "import sys; sys.path.insert(0, 'docs'); import make_extension as m; from pathlib import Path; "
        "text = Path('docs/extension.md').read_text('utf-8'); sys.exit(m.page(text) != text)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0, "run: python docs/make_extension.py"


def test_tested_versions_are_stated_alike() -> None:
    """The page of the extension and README.md claim tests only on those versions of CPython."""
    code = "import sys; sys.path.insert(0, 'docs'); import make_extension as m; print(*m.TESTED)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    tested = done.stdout.split()
    claimed = re.search(r"tested on CPython (\S+) to (\S+)", (ROOT / "README.md").read_text("utf-8"))
    assert claimed and list(claimed.groups()) == [tested[0], tested[-1]]
