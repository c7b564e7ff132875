"""`phaseseg view`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaseseg.display import Message
from phaseseg.families import FAMILIES
from phaseseg.terminal import options
from phaseseg.terminal.bonds import rule_with_bonds
from phaseseg.terminal.errors import exit_codes, usage_errors
from phaseseg.terminal.flags import Flag, option_flags, refuse_others, with_flags
from phaseseg.terminal.run import check_place, frame_reader
from phaseseg.terminal.show import frame_bar, note
from phaseseg.terminal.slabs import PREDICTED_BYTES, beyond_memory

if TYPE_CHECKING:
    from phaseseg.fields import Fields
    from phaseseg.frame import Frame

BYTES_PER_ATOM = 250
"""Memory for each atom of a frame that is shown whole, with the text that is read."""


def view_word() -> Callable[..., None]:
    """Build the command, with the options of all families."""
    return with_flags(_view, option_flags(FAMILIES.values(), "run", "read"), after="interface")


def _view(
    context: typer.Context,
    given: Mapping[Flag, Any],
    input: options.Input,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m",
            help="Checkpoint whose predictions are shown: a name from `phaseseg models list` or a file. "
            "Without one, only what is in the file is shown.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write, .html.")] = Path("view.html"),
    color: Annotated[
        str | None,
        typer.Option(help="Field or column of the file that colors the atoms, or species; all can be chosen "
                     "in the page."),
    ] = None,
    species: Annotated[
        str | None, typer.Option(help="Species shown at first, as in Fe,O; the page can show the others.")
    ] = None,
    interface: Annotated[
        bool, typer.Option("--interface", help="Draw the interface that the model finds.")
    ] = False,
    device: options.Device = "auto",
    types: options.Types = None,
    names: options.Names = None,
    cell: options.Cell = None,
    units: options.Units = None,
    dt: options.TimeStep = None,
    frames: options.Frames = None,
    format: options.Format = None,
    quiet: options.Quiet = False,
) -> None:  # fmt: skip
    """Write a page that shows the atoms in a browser, without a network: to turn, color and clip."""
    with exit_codes(f"{output} was not written."):
        from phaseseg.fields import MessageCounter
        from phaseseg.io.pieces import read_pieces
        from phaseseg.viewer.page import page_of
        from phaseseg.viewer.scene import Scene

        with usage_errors():
            if output.suffix.lower() not in (".html", ".htm"):
                raise ValueError(f"{output.name}: the page is written as .html; choose such a name.")
            check_place(output, input=input)
            analysis = _analysis(model, given, device, interface)
            reader = frame_reader(
                input, types=types, names=names, cell=cell or "open", frames=frames, dt=dt, format=format,
                units=units, fields=True,
            )  # fmt: skip
            shown = () if species is None else options.split_names(species)
            scene = Scene(color=color, species=shown, interface=interface)
        messages = MessageCounter()
        thinned = _thinned(input, model, format)
        with frame_bar(input.name, shown=not quiet) as bar:
            if thinned:
                for found in bar.frames(read_pieces(thinned, **{**reader.options, "cell": cell}), "thinning"):
                    messages.add(scene.add_pieces(found, bar.inside).messages)
            for frame, fields in () if thinned else analysis(bar, reader):
                heard = frame.messages if fields is None else fields.messages
                messages.add([*heard, *_about_cell(frame)])
                scene.add(frame, fields)
        page = page_of(scene, input.name)
        page.save(output)
        if not quiet:
            note(*messages.messages(), *scene.described("")["notes"])
            note(f"{page.summary} in {size_of(len(page.html))}.", f"Written: {output}")


def _thinned(input: Path, model: str | None, format: str | None) -> Path | None:
    """The file, if its frames are thinned while they are read, because they would not fit into memory.

    Raises
    ------
    ValueError
        If they would not, and cannot be thinned.
    """
    from phaseseg.io.pieces import FORMATS, announced_atoms, pieced_format
    from phaseseg.io.series import files_of

    first, *others = files_of(input)
    n_bytes = BYTES_PER_ATOM if model is None else PREDICTED_BYTES
    large = beyond_memory(input, announced_atoms(first, format), n_bytes)
    if large and model is not None:
        raise ValueError(f"{large} Write the predictions with phaseseg predict, and view that file.")
    if large and (others or not pieced_format(first, format)):
        raise ValueError(
            f"{large} Only one {' or '.join(FORMATS)} file is thinned while it is read. Convert it to one."
        )
    return first if large else None


Pairs = Iterator[tuple["Frame", "Fields | None"]]
Analysis = Callable[[Any, Callable[[], Iterable[Any]]], Pairs]


def _analysis(model: str | None, given: Mapping[Flag, Any], device: str, interface: bool) -> Analysis:
    """Return a function of the bar and the reader that yields the frames with what is known of them."""
    if model is None:
        if given:
            raise ValueError(f"{next(iter(given)).decl} is an option of networks; name one with --model.")
        if interface:
            raise ValueError("--interface needs a network that finds it, as in -m segmentation/gat-v1.")
        return lambda bar, reader: ((frame, None) for frame in bar.frames(reader(), "packing"))
    from phaseseg.api import load_model, predictor, prepare
    from phaseseg.fields import fields_or_none
    from phaseseg.nn.device import check_device

    network = load_model(model)
    family, name = FAMILIES[network.checkpoint.family], network.checkpoint.name
    refuse_others(given, network.checkpoint)
    check_device(device)
    if interface and not any(spec.surface for spec in family.fields):
        raise ValueError(f"networks of the family {family.name} find no interface; omit --interface.")
    chosen = {flag.name: flag.value(value) for flag, value in given.items()}
    rule = rule_with_bonds(network, family, chosen)

    def pairs(bar: Any, reader: Callable[[], Iterable[Any]]) -> Pairs:
        seen = bar.frames(reader(), f"fitting {name} to all frames")
        ready = prepare(network, seen, rule, progress=bar.inside)
        predict = predictor(ready, rule, device=device, progress=bar.inside)  # type: ignore[arg-type]
        for frame in bar.frames(reader(), f"predicting with {name}"):
            yield frame, fields_or_none(predict, frame)

    return pairs


def _about_cell(frame: Frame) -> list[Message]:
    """A message if the cell is the box that the reader puts around atoms without one."""
    from phaseseg.io.reading import open_box

    if frame.pbc.any() or not len(frame) or (frame.cell != open_box(frame.positions)["cell"]).any():
        return []
    return [Message("There is no cell in the file, so the atoms are shown in an open box.", "no-cell")]


def size_of(n_bytes: int) -> str:
    """A size for people.

    >>> size_of(760_000), size_of(12_300_000)
    ('0.8 MB', '12 MB')
    """
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e7 else f"{n_bytes / 1e6:.0f} MB"
