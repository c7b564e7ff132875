"""The page itself, and `view`, which makes it of frames and fields."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import repeat
from pathlib import Path
from typing import Any

from phaseseg.display import plural, printable
from phaseseg.fields import plain
from phaseseg.frame import Frame
from phaseseg.io import atomic_output, frame_from_atoms
from phaseseg.version import __version__
from phaseseg.viewer.scene import Scene

SCRIPTS = ("geometry.js", "shaders.js", "data.js", "draw.js", "panel.js")


class View:
    """A page with frames to turn, as a file or in a notebook.

    html : the page
    height : of the view in a notebook, pixels
    """

    def __init__(self, html: str, summary: str, height: int = 560) -> None:
        self.html, self.summary, self.height = html, summary, height

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file; return its path.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        with atomic_output(path) as temporary:
            temporary.write_text(self.html, encoding="utf-8")
        return Path(path)

    def __repr__(self) -> str:
        return f"<View of {self.summary}; write it to a file with .save('view.html')>"

    def frame_html(self) -> str:
        """The page as a frame in another page."""
        return (
            f'<iframe title="{escape(self.summary)}" style="width:100%;height:{self.height}px;border:0" '
            f'srcdoc="{escape(self.html)}"></iframe>'
        )

    def _repr_html_(self) -> str:
        return self.frame_html()


def view(
    frames: Any,
    fields: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
    *,
    color: str | None = None,
    species: str | Sequence[str] = (),
    interface: bool = False,
    title: str = "",
    height: int = 560,
) -> View:
    """Show frames with their fields: a page to turn with the mouse, which a notebook shows by itself.

    Parameters
    ----------
    frames : Frame or iterable of frames; `ase.Atoms` also
    fields : result of an analysis of the frame, or one for each frame; any mapping of names to arrays of
        length n_atoms, and to `Bonds`
    color : name of the field or column that colors the atoms, or "species"; by default the first field
    species : those shown at first; the others can be switched on
    interface : draw the interface, if the fields have one
    title : above the picture; by default the name of the file
    height : in a notebook, pixels

    Returns
    -------
    View
        The last expression of a notebook cell shows it; `.save("view.html")` writes it.

    Raises
    ------
    ValueError
        For frames without atoms, and a color or species that the first frame does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from phaseseg import Frame, view
    >>> frame = Frame(np.random.default_rng(0).random((20, 3)) * 9, [9.0, 9.0, 9.0], True, ["Fe"] * 20)
    >>> view(frame, {"height": frame.positions[:, 2]}, color="height")
    <View of 20 atoms, 1 frame; write it to a file with .save('view.html')>
    """
    one = isinstance(frames, Frame) or hasattr(frames, "get_positions")
    many = [frames] if one else frames
    results: Iterable[Any]
    if fields is None or isinstance(fields, Mapping):
        results = [fields] if one else repeat(fields)
        if fields is not None and not one:
            raise ValueError("several frames need a list of fields, one for each.")
    else:
        results = fields
    names = (species,) if isinstance(species, str) else tuple(species)
    scene = Scene(color=color, species=names, interface=interface)
    for frame, found in zip(many, results, strict=False):
        scene.add(frame if isinstance(frame, Frame) else frame_from_atoms(frame, fields=True), found)
    return page_of(scene, title, height)


def page_of(scene: Scene, title: str = "", height: int = 560) -> View:
    """Make the page of the frames that were added to a scene."""
    about = scene.described(title)
    summary = f"{plural(about['frames'][0]['n'], 'atom')}, {plural(len(scene.frames), 'frame')}"
    folder = files("phaseseg") / "viewer" / "page"
    script = "\n".join((folder / name).read_text("utf-8") for name in SCRIPTS)
    blocks = "\n".join(
        f'<script type="text/plain" id="frame-{k}">{packed.data}</script>'
        for k, packed in enumerate(scene.frames)
    )
    html = (folder / "page.html").read_text("utf-8")
    parts = {
        "title": escape(printable(about["title"])), "summary": escape(summary), "still": scene.still(),
        "style": (folder / "page.css").read_text("utf-8"), "version": escape(__version__),
        "scene": _safe_json(about), "script": script, "frames": blocks,
    }  # fmt: skip
    # In one pass: a title may contain braces, too.
    return View(re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], html), summary, height)


def _safe_json(content: Any) -> str:
    """JSON that cannot end the script element that contains it."""
    text = json.dumps(plain(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return printable(text).replace("<", "\\u003c")
