"""Conversion of OVITO's DataCollection to a Frame, and of Fields to OVITO's data objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from ovito.data import BondType, DataCollection, DataTable, ElementType, SimulationCell, VoxelGrid
from ovito.modifiers import CreateIsosurfaceModifier

from phaseseg.display import face
from phaseseg.fields import Bonds, Column, Fields, Grid, Message, Table, snake
from phaseseg.frame import Category, Frame, Units, error_prefix
from phaseseg.io.elements import species_of
from phaseseg.io.names import kind_of, topology
from phaseseg.io.reading import from_zero, name_table, open_box, type_table, types_from_zero
from phaseseg.specs import FIELD_SPECS, SCALAR_MAP, UNKNOWN, ClassName, FieldSpec

# OVITO to Frame

OWN_PLACE = ("Time", "Timestep", "SourceFrame")
"""Numbers among the attributes of OVITO that are not in `Frame.info`."""


def names_of(text: str) -> tuple[str, ...]:
    """Split comma-separated names: `"Fe, Ni"` gives `("Fe", "Ni")`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def frame_from_data(
    data: Any,
    types: str = "",
    units: Units = "metal",
    names: str = "",
    *,
    fields: bool = False,
    boxed: bool = False,
) -> Frame:
    """Convert the particles and the cell of a DataCollection to a Frame.

    Parameters
    ----------
    types : names of particle types 1, 2, ..., comma separated (`"Fe,Mg,Si,O,N"`); if empty, the names in
        the data
    names : what atom names or names of types stand for (`"MW=X,Me1=C"`)
    units : "metal" or "lj"; OVITO's data do not state them
    fields : whether further numeric particle properties go into `Frame.fields`
    boxed : whether particles without a cell get an open box around them; otherwise they are refused

    A 2D cell becomes a layer of thickness 1 Å that contains all particles. A density per Å^3 is then
    numerically one per Å^2, and the frame has two dimensions.

    Raises
    ------
    ValueError
        No particles, cell or types; types without names; values that `Frame` rejects.
    """
    source, index = _source(data)
    where = error_prefix(source)
    particles = data.particles
    if particles is None or particles.count == 0:
        raise ValueError(f"{where}the input has no particles.")
    if data.cell is None and not boxed:
        raise ValueError(
            f"{where}the input has no simulation cell; add one with the modifier 'Simulation cell'."
        )
    if "Position" not in particles:
        raise ValueError(f"{where}the particles have no positions.")
    # Copy, because OVITO's arrays are read-only and would trigger another compilation of the kernels.
    positions = np.array(particles.positions[...])
    if data.cell is None:
        cell, origin, pbc = open_box(positions).values()
    else:
        matrix = np.array(data.cell[...], dtype=np.float64)
        cell, origin, pbc = matrix[:, :3].T.copy(), matrix[:, 3].copy(), list(data.cell.pbc)
    if data.cell is not None and data.cell.is2D:
        normal = np.cross(cell[0], cell[1])
        if length := float(np.linalg.norm(normal)):
            normal /= length
            cell[2], pbc[2] = normal, True
            positions = positions - np.outer((positions - origin) @ normal, normal)
    columns = topology({title: _words(particles[title]) for title in particles if kind_of(title)})
    with face("OVITO"):
        try:
            species, messages = _species(particles, columns["categories"], types, names)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None
    ids = particles.identifiers
    others = _others(particles) if fields else {}
    given, number = data.attributes, partial(number_in, data.attributes)
    odd = [
        Message(f"The attribute {name!r} is {given[name]!r:.80}, not a number, and is ignored.", "no-number")
        for name, value in (("Time", number("Time")), ("Timestep", number("Timestep", whole=True)))
        if value is None and name in given
    ]
    # Numbers of the file itself, such as its temperature. Names with a point are results of modifiers.
    own = (name for name in given if "." not in name and name not in OWN_PLACE)
    info = {name: value for name in own if (value := number(name)) is not None}
    return Frame(
        positions, cell, np.array(pbc, dtype=bool), *species, origin, units=units, source=source,
        ids=None if ids is None else np.array(ids[...]), time=number("Time"), info=info, index=index,
        timestep=number("Timestep", whole=True), messages=(*messages, *odd), fields=others, **columns,
    )  # fmt: skip


def _others(particles: Any) -> dict[str, NDArray[np.float64]]:
    """Return the numeric properties that have no place of their own in a Frame."""
    own = ("Position", "Particle Type", "Particle Identifier", "Color", "Selection")
    return {
        title: values.astype(np.float64)
        for title in particles
        if title not in own and not kind_of(title)
        and (values := np.array(particles[title][...])).dtype.kind in "iuf"
    }  # fmt: skip


def _source(data: Any) -> tuple[str, int | None]:
    """Return the name of the frame for messages, and its number in its file."""
    file, number = data.attributes.get("SourceFile"), number_in(data.attributes, "SourceFrame", whole=True)
    name = Path(file).name if isinstance(file, str) else ""
    return (f"{name}, frame {number}" if name and number is not None else name), number


@overload
def number_in(attributes: Mapping[str, Any], name: str, *, whole: Literal[True]) -> int | None: ...


@overload
def number_in(attributes: Mapping[str, Any], name: str) -> float | None: ...


def number_in(attributes: Mapping[str, Any], name: str, *, whole: bool = False) -> float | None:
    """Return an attribute that is a finite number, or a whole number; None for everything else."""
    value = attributes.get(name)
    if not isinstance(value, int | float | np.number) or not -1e18 < value < 1e18:
        return None
    if not whole:
        return float(value)
    return int(value) if value == int(value) else None


def _species(
    particles: Any, categories: Mapping[str, Category], types: str, names: str
) -> tuple[Category, tuple[Message, ...]]:
    """Return the species, in the order of the type ids or atom names, and messages about them."""
    prop = particles.particle_types
    if prop is None:
        raise ValueError(
            "the particles have no types, so no species can be chosen; load the column with the types or "
            "elements as 'Particle Type'."
        )
    values = np.array(prop[...], dtype=np.int64)
    low = int(values.min())
    if int(values.max()) - low < max(1000, len(values)):
        used = np.bincount(values - low) > 0
        ids, places = np.flatnonzero(used) + low, (np.cumsum(used) - 1)[values - low]
    else:
        ids, places = np.unique(values, return_inverse=True)
    messages: tuple[Message, ...] = ()
    given, renames, counted = type_table(types if names_of(types) else None)
    renames = renames | name_table(names)
    if counted and (shifted := from_zero(given, ids)):
        given, messages = shifted, (types_from_zero(shifted),)
    table = given or {entry.id: entry.name for entry in prop.types}
    stated = Category(places.astype(np.int32), tuple(table.get(one, "") for one in ids.tolist()))
    if "Atom Name" in particles and "name" in categories and not given:
        # OVITO looks at the first letters only, which makes fluorine of Fe and carbon of Cl in a GRO file.
        name, residue = categories["name"], categories.get("residue")
        return species_of(name, residue, stated=stated, guessed=True, names=renames)
    if unnamed := [str(one) for one, name in zip(ids.tolist(), stated.names, strict=True) if not name]:
        known = ", ".join(f"{number} = {name}" for number, name in table.items() if name) or "none"
        raise ValueError(
            f"particle type {', '.join(unnamed)} has no name (named: {known}); name types 1, 2, ... in the "
            "parameter 'types', for example Fe,Mg,Si,O,N."
        )
    # Two types may have the same name.
    return Category.of([renames.get(name, name) for name in stated.names]).take(places), messages


def _words(prop: Any) -> Any:
    """Return the numbers or names of a property; if it has named types, their names as a Category."""
    values = np.array(prop[...])
    names = {entry.id: entry.name for entry in prop.types} if prop.types else {}
    if not any(names.values()):
        return values
    ids, codes = np.unique(values, return_inverse=True)
    return Category(codes.astype(np.int32), tuple(names.get(one) or str(one) for one in ids.tolist()))


# Fields to OVITO

Color = tuple[float, float, float]
GRAY: Color = (0.6, 0.6, 0.6)
CONTENTS = {
    "wt%": "Content (wt%)",
    "at%": "Content (at%)",
    "mol%": "Content (mol%)",
    "Å^-3": "Density (Å^-3)",
}
"""Units whose columns are combined into one plot, and its title."""
MESSAGES = "messages"
"""Last part of the name of the attribute that every modifier writes."""


def number_of(data: Any, prefix: str) -> int:
    """Return the number of a modifier in the pipeline, among those whose attributes have this prefix.

    The outputs of the second one are numbered so that those of the first are kept: identifiers and attributes
    as by OVITO's own modifiers (`phase-density.2`), particle properties, whose names may not contain a dot,
    as `Phase 2`.
    """
    return next(n for n in count(1) if numbered(prefix + MESSAGES, n) not in data.attributes)


def numbered(name: str, number: int, mark: str = ".") -> str:
    """Return an identifier with the number of its modifier, if it is not the first."""
    return f"{name}{mark}{number}" if number > 1 else name


def numbered_title(title: str, number: int) -> str:
    """Return the name of a property with the number of its modifier, if it is not the first."""
    return numbered(title, number, " ")


def put_field(data: Any, spec: FieldSpec, values: NDArray[Any], number: int = 1) -> bool:
    """Write a per-atom field as a particle property, with the names and colors of its classes.

    Return whether a property with this name, of any data type, was replaced.
    """
    particles, title = data.particles_, numbered_title(spec.title, number)
    values = values.astype(np.int32) if values.dtype == np.int8 else values
    parts = {}
    if spec.kind == "probability":
        parts["components"] = [entry.name for entry in spec.classes[: values.shape[1]]]
    replaced = title in particles
    if replaced:
        present = particles[title]
        if parts or (present.dtype, present.ndim) != (values.dtype, values.ndim):
            del particles[title]
    prop = particles.create_property(title, data=values, **parts)
    for entry in spec.classes if spec.kind == "class" else ():
        present = prop.type_by_id(entry.id, require=False)
        if present is None:
            prop.types.append(ElementType(id=entry.id, name=entry.name, color=entry.color))
        elif (present.name, tuple(present.color)) != (entry.name, entry.color):
            present = prop.make_mutable(present)
            present.name, present.color = entry.name, entry.color
    return replaced


def put_colors(data: Any, values: NDArray[Any], colors: Sequence[Color]) -> None:
    """Color every particle; `values` are indices into `colors`."""
    data.particles_.create_property("Color", data=np.array(colors, dtype=np.float32)[values])


def put_shades(data: Any, values: NDArray[np.floating[Any]]) -> None:
    """Color every particle by a scalar, 0 to 1; those without a value are gray."""
    import matplotlib as mpl

    known = np.isfinite(values)
    mixed = mpl.colormaps[SCALAR_MAP](np.where(known, values, 0.0))[:, :3]
    mixed[~known] = UNKNOWN
    data.particles_.create_property("Color", data=mixed.astype(np.float32))


def put_bonds(
    data: Any,
    name: str,
    bonds: Bonds,
    kinds: NDArray[Any] | None = None,
    classes: Sequence[ClassName] = (),
    titles: Mapping[str, str] | None = None,
    vis: Any = None,
    number: int = 1,
) -> None:
    """Add the bonds of a field to existing bonds, which keep all their properties.

    bonds : columns become bond properties, with value 0 for the existing bonds
    kinds : (n_bonds,) ids of `classes`, which become bond types with unused ids; if left out, all bonds get
        one type with the title of the field
    titles : titles of bond properties by column; others are made from the column name
    vis : visual element, used if there were no bonds before
    number : of the modifier; it becomes part of the names of the bond types
    """
    if kinds is None:
        kinds, classes = np.zeros(len(bonds), dtype=int), (ClassName(0, FIELD_SPECS[name].title, GRAY),)
    classes = [replace(entry, name=numbered_title(entry.name, number)) for entry in classes]
    particles = data.particles_
    if particles.bonds is None:
        first = 0
        particles.create_bonds(count=len(bonds))
        if vis is not None:
            particles.bonds_.vis = vis
    else:
        first = particles.bonds.count
        particles.bonds_.count = first + len(bonds)
    present = particles.bonds_

    def column(title: str, dtype: Any = None) -> Any:
        if title in present:
            return present[f"{title}_"]
        prop = present.create_property(title, **({} if dtype is None else {"dtype": dtype}))
        prop[...] = 0
        return prop

    column("Topology")[first:] = bonds.atoms
    column("Periodic Image")[first:] = bonds.shifts
    for key, values in bonds.columns.items():
        title = (titles or {}).get(key, key.replace("_", " ").title())
        # OVITO's own "Length" is float64.
        column(title, np.int32 if values.dtype.kind in "iu" else np.float64)[first:] = values
    types = column("Bond Type")
    taken = {entry.id for entry in types.types} | set(np.unique(types[:first]).tolist()) | {0}
    lookup = np.zeros(1 + max(entry.id for entry in classes), dtype=np.int32)
    for entry in classes:
        same = next((there for there in types.types if there.name == entry.name), None)
        if same is None:
            same = BondType(id=max(taken) + 1, name=entry.name, color=entry.color)
            types.types.append(same)
            taken.add(same.id)
        lookup[entry.id] = same.id
    types[first:] = lookup[kinds]


def put_grid(data: Any, name: str, grid: Grid, vis: Any = None, number: int = 1) -> Any:
    """Write the grid of a field as a voxel grid of points; return its identifier.

    Values become float64, because OVITO requires it for isosurfaces.
    """
    title = FIELD_SPECS[name].title
    voxels = data.grids.create(
        identifier=numbered(title.lower().replace(" ", "-"), number), title=title, domain=_domain(data, grid),
        shape=grid.shape, grid_type=VoxelGrid.GridType.PointData,
    )  # fmt: skip
    voxels.create_property(title, data=grid.values.astype(np.float64).ravel(order="F"))
    if vis is not None:
        voxels.vis = vis
    return voxels.identifier


def _domain(data: Any, grid: Grid) -> Any:
    """Return the domain of the voxel grid, which ends at the last point along open axes."""
    matrix = np.empty((3, 4))
    matrix[:, 3] = grid.origin
    for axis, (vector, points, periodic) in enumerate(zip(grid.cell, grid.shape, grid.pbc, strict=True)):
        matrix[:, axis] = vector if periodic or points == 1 else vector * (points - 1) / points
    a, b, c = (bool(periodic) for periodic in grid.pbc)
    if np.array_equal(matrix, data.cell[...]) and (a, b, c) == tuple(data.cell.pbc) and not data.cell.is2D:
        return data.cell
    cell = SimulationCell(pbc=(a, b, c))
    cell[...] = matrix
    cell.vis.enabled = False
    return cell


def put_isosurface(
    data: Any, name: str, grid: Grid, level: float, identifier: str, title: str, vis: Any = None
) -> None:
    """Write the isosurface of the grid of a field at `level` as a surface mesh."""
    alone = DataCollection()  # keeps other outputs of OVITO's modifier, and its identifiers, out of `data`
    alone.objects.append(data.cell)
    voxels = put_grid(alone, name, grid)
    title_of_grid = FIELD_SPECS[name].title
    alone.apply(
        CreateIsosurfaceModifier(operate_on=f"voxels:{voxels}", property=title_of_grid, isolevel=level)
    )
    surface: Any = alone.surfaces["isosurface_"]
    surface.identifier, surface.title = identifier, title
    if vis is not None:
        surface.vis = vis
    data.objects.append(surface)


def put_tables(data: Any, fields: Fields, prefix: str, number: int = 1) -> None:
    """Write the tables as plots against their first column: floats as lines, texts and integers as bars.

    A row whose label starts with the name of a class has the color of that class. Columns of one quantity
    for several parts are curves of one plot, and so are contents in one unit.
    """
    colors = {entry.name: entry.color for name in fields for entry in FIELD_SPECS[name].classes}
    for name, table in fields.level("table").items():
        first, *others = table.headings
        line = table.columns[first].dtype.kind == "f"
        plot = DataTable.PlotMode.Line if line else DataTable.PlotMode.BarChart
        identifier = numbered(prefix + name.replace("_", "-"), number)
        target = _new_table(data, identifier, table.title, plot)
        target.x = _put_column(target, first, table.columns[first], colors)
        made: dict[str, Any] = {}
        for column in others:
            parts = {
                one.part: table.columns[one] for one in others
                if one.part and one.of is None and (one.quantity, one.unit) == (column.quantity, column.unit)
            }  # fmt: skip
            if line and len(parts) > 1 and column.part and column.unit not in CONTENTS:
                title = Column(column.quantity, column.unit)
                if title not in made:
                    made[title] = _put_curves(target, _allowed(title), parts)
            elif column.unit not in CONTENTS:
                made[str(column)] = _put_column(target, column, table.columns[column], colors)
            elif column.unit not in made:
                curves = {one.quantity: table.columns[one] for one in others if one.unit == column.unit}
                made[column.unit] = _put_curves(target, CONTENTS[column.unit], curves)
        target.y = next((made[unit] for unit in CONTENTS if unit in made), next(iter(made.values()), None))


def _new_table(data: Any, identifier: str, title: str, plot: DataTable.PlotMode) -> Any:
    if identifier in data.tables:  # from another modifier, perhaps with other columns
        data.objects.remove(data.tables[identifier])
    return data.tables.create(identifier=identifier, title=title, plot_mode=plot)


def _put_column(table: Any, title: str, values: Any, colors: Mapping[str, Color]) -> Any:
    values = np.asarray(values)
    title = _allowed(title)
    if values.dtype.kind in "US":
        prop = table.create_property(title, data=np.arange(len(values), dtype=np.int32))
        for number, text in enumerate(values.tolist()):
            prop.types.append(ElementType(id=number, name=text, color=colors.get(text.split(" ")[0], GRAY)))
        return prop
    kinds = {"b": np.int32, "i": np.int64, "u": np.int64, "f": np.float64}
    return table.create_property(title, data=values.astype(kinds[values.dtype.kind]))


def _put_curves(table: Any, title: str, curves: Mapping[str, Any]) -> Any:
    stacked = np.stack([np.asarray(values, dtype=np.float64) for values in curves.values()], axis=1)
    return table.create_property(title, data=stacked, components=[*map(_allowed, curves)])


def _allowed(title: str) -> str:
    """A title without the characters that OVITO does not allow in names of properties."""
    return title.replace(".", "_").replace("/", " per ").replace(":", " ")


def put_series(
    data: Any, identifier: str, title: str, x: tuple[str, Sequence[float]], curves: Mapping[str, Any],
    plot: DataTable.PlotMode,
) -> None:  # fmt: skip
    """Write per-frame numbers of a trajectory as curves of one plot; `x` has the title and values."""
    table = _new_table(data, identifier, title, plot)
    table.x = _put_column(table, *x, {})
    table.y = _put_curves(table, title, curves)


def put_attributes(data: Any, values: Mapping[str, Any], prefix: str, number: int = 1) -> None:
    """Write numbers and texts as attributes: `PREFIX.n_phases`; None is left out."""
    for name, value in values.items():
        if value is not None:
            plain = value.item() if isinstance(value, np.generic) else value
            data.attributes[numbered(prefix + name, number)] = plain


def attributes_of(fields: Fields, messages: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of the frame, the class names of per-atom fields (`phase_names`) and `messages`."""
    values = fields.level("frame")
    for name in fields.level("atom"):
        if FIELD_SPECS[name].kind == "class":
            names = ",".join(f"{entry.id}={entry.name}" for entry in FIELD_SPECS[name].classes)
            values[f"{name}_names"] = names
    return values | {MESSAGES: " ".join(messages)}


def cells_of(table: Table) -> dict[str, Any]:
    """Return the cells of a table whose first column is text, by row and column: `rich.Fe_wt_percent`."""
    values: dict[str, Any] = {}
    for row in table.rows():
        (_, name), *entries = row.items()
        values |= {f"{snake(name)}.{snake(column)}": value for column, value in entries}
    return values


# Labels read from files


def restore(data: Any, specs: Sequence[FieldSpec], column: str, prefix: str) -> str:
    """Convert a column read from a file to the typed property of a field, and rename related columns.

    Return the name of the property. It counts as the output of a modifier: later ones are numbered, and it is
    itself if there was one before.

    Parameters
    ----------
    specs : the field, of kind "class", followed by per-atom fields that may have been written with it
    column : property with the classes; if empty, the name of the field in any spelling
    prefix : of the attributes of modifiers that write the same field

    Raises
    ------
    ValueError
        No particles; a missing column; values that are not classes.
    """
    particles, spec = data.particles, specs[0]
    if particles is None or particles.count == 0:
        raise ValueError("the input has no particles.")
    found = {_plain(name): name for name in reversed(list(particles.keys()))}
    sources = {one.name: found.get(_plain(one.name), "") for one in specs}
    sources[spec.name] = column or sources[spec.name]
    if sources[spec.name] not in particles:
        raise ValueError(
            f"the particles have no property {column or spec.name!r}; the properties are "
            f"{', '.join(particles.keys())}."
        )
    number, replaced = number_of(data, prefix), []
    for one in specs:
        source = sources[one.name]
        if not source:
            continue
        column_of = data.particles[source]
        values = _class_codes(column_of, source, spec) if one is spec else np.array(column_of[...])
        if values.ndim != (2 if one.kind == "probability" else 1):
            continue
        if one.kind == "count":
            values = values.astype(np.int32)
        in_place = source == one.title
        if not in_place:
            del data.particles_[source]
        if put_field(data, one, values, 1 if in_place else number) and not in_place:
            replaced.append(one.title)
    source = str(sources[spec.name])
    if source == spec.title and number > 1:  # the output of another modifier
        return source
    text = f"The property {source!r} of the input was restored. {about_replaced(replaced, number)}"
    put_attributes(data, {MESSAGES: text.strip()}, prefix, number)
    return source if source == spec.title else numbered_title(spec.title, number)


def about_replaced(titles: Sequence[str], number: int) -> str:
    """Return a sentence that names the properties that a modifier has replaced, or an empty text."""
    names = ", ".join(repr(numbered_title(title, number)) for title in titles)
    return f"Properties of the input were replaced: {names}." if titles else ""


def _plain(name: str) -> str:
    """Normalize a name: `Phase Density` and `phase_density` are the same in different formats."""
    return name.lower().replace(" ", "").replace("_", "")


def _class_codes(prop: Any, name: str, spec: FieldSpec) -> NDArray[np.int32]:
    """Return class ids from names or numbers."""
    ids = {str(key): entry.id for entry in spec.classes for key in (entry.name, entry.id)}
    values = prop[...]
    if isinstance(values, list):
        bad = sorted({repr(str(value)) for value in values if str(value) not in ids})
        codes = np.array([ids.get(str(value), 0) for value in values])
    else:
        codes = np.asarray(values)
        if codes.ndim != 1:
            raise ValueError(
                f"the property {name!r} has {codes.shape[1]} components; a {spec.name} is one number."
            )
        bad = [str(code) for code in codes[~np.isin(codes, list(ids.values()))]]
    if bad:
        known = ", ".join(f"{entry.id} = {entry.name}" for entry in spec.classes)
        raise ValueError(f"the property {name!r} contains {bad[0]}, which is not a {spec.name} ({known}).")
    return codes.astype(np.int32)
