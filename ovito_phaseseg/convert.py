"""OVITO's DataCollection to a Frame, and Fields to OVITO's properties, bonds, grids, surfaces and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ovito.data import BondType, DataTable, ElementType, SimulationCell, VoxelGrid
from ovito.modifiers import CreateIsosurfaceModifier

from phaseseg.fields import Bonds, Fields, Grid, Table, snake
from phaseseg.frame import Frame, Units
from phaseseg.specs import FIELD_SPECS, ClassName, FieldSpec

PREFIX = "PhaseSegmentation."
"""Begins the name of every attribute of the modifiers for two liquids."""
GRIDS = {"density_grid": "phase-density", "score_grid": "phase-score"}
"""Identifiers of the voxel grids."""
INTERFACE = "phase-interface"
"""Identifier of the surface mesh."""

PLOTS: dict[str, tuple[str, DataTable.PlotMode]] = {
    "composition": ("phase-composition", DataTable.PlotMode.BarChart),
    "partition": ("phase-partition", DataTable.PlotMode.BarChart),
    "domains": ("phase-domains", DataTable.PlotMode.BarChart),
    "proxigram": ("phase-proxigram", DataTable.PlotMode.Line),
}
"""Identifier and plot of every table."""

BOND_TITLES = {"bb": "B-B", "length": "Length", "attention": "Attention", "kept": "Kept"}
"""Bond properties by the names of the columns of `Bonds`."""


# In


def names_of(text: str) -> tuple[str, ...]:
    """The names in a comma-separated text: `"Fe, Ni"` gives `("Fe", "Ni")`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def frame_from_data(data: Any, types: str = "", units: Units = "metal") -> Frame:
    """The particles and the cell of a DataCollection as a Frame.

    Parameters
    ----------
    data : ovito.data.DataCollection
    types : names of particle types 1, 2, ..., comma separated (`"Fe,Mg,Si,O,N"`); without them the
        types' own names are used
    units : OVITO does not know them

    A 2D cell becomes a layer of 1 Å in which every particle lies, so that a density per Å^3 reads as
    one per Å^2, and the frame has two dimensions.

    Raises
    ------
    ValueError
        No particles, cell or types; types without names; and whatever `Frame` refuses.
    """
    source = _source(data)
    where = f"{source}: " if source else ""
    particles = data.particles
    if particles is None or particles.count == 0:
        raise ValueError(f"{where}the input has no particles.")
    if data.cell is None:
        raise ValueError(
            f"{where}the input has no simulation cell; add one with the modifier 'Simulation cell'."
        )
    if "Position" not in particles:
        raise ValueError(f"{where}the particles have no positions.")
    matrix = np.array(data.cell[...], dtype=np.float64)
    cell, origin, pbc = matrix[:, :3].T.copy(), matrix[:, 3].copy(), list(data.cell.pbc)
    # A copy, because OVITO's arrays are read-only and the kernels would be compiled for them anew.
    positions = np.array(particles.positions[...])
    if data.cell.is2D:
        normal = np.cross(cell[0], cell[1])
        if length := float(np.linalg.norm(normal)):
            normal /= length
            cell[2], pbc[2] = normal, True
            positions = positions - np.outer((positions - origin) @ normal, normal)
    codes, names = _species(particles, types, where)
    ids = particles.identifiers
    time = data.attributes.get("Time")
    return Frame(
        positions=positions,
        cell=cell,
        origin=origin,
        pbc=np.array(pbc, dtype=bool),
        species=codes,
        species_names=names,
        ids=None if ids is None else np.array(ids[...]),
        timestep=data.attributes.get("Timestep"),
        time=None if time is None else float(time),
        units=units,
        source=source,
    )


def _source(data: Any) -> str:
    file, number = data.attributes.get("SourceFile"), data.attributes.get("SourceFrame")
    if not file:
        return ""
    name = Path(str(file)).name
    return name if number is None else f"{name}, frame {number}"


def _species(particles: Any, types: str, where: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """0-based codes and their names, in the order of the type ids."""
    prop = particles.particle_types
    if prop is None:
        raise ValueError(
            f"{where}the particles have no types, so no species can be chosen; load the column that holds "
            "the types or elements as 'Particle Type'."
        )
    values = np.array(prop[...])
    low = int(values.min())
    ids = np.flatnonzero(np.bincount(values - low)) + low
    given = names_of(types)
    table = dict(enumerate(given, start=1)) if given else {entry.id: entry.name for entry in prop.types}
    unnamed = [int(number) for number in ids if not table.get(int(number))]
    if unnamed and given:
        named = ", ".join(f"{number} = {name}" for number, name in table.items())
        raise ValueError(
            f"{where}particle type {', '.join(map(str, unnamed))} has no name among the given types "
            f"({named})."
        )
    if unnamed:
        raise ValueError(
            f"{where}particle type {', '.join(map(str, unnamed))} has no name; name types 1, 2, ... in the "
            "parameter 'types', for example Fe,Mg,Si,O,N."
        )
    names = [table[int(number)] for number in ids]
    distinct = tuple(dict.fromkeys(names))  # two types may be one element
    lookup = np.zeros(ids[-1] - low + 1, dtype=np.int32)
    lookup[ids - low] = [distinct.index(name) for name in names]
    return lookup[values - low], distinct


# Out


def put_property(
    particles: Any, title: str, values: NDArray[Any], components: Sequence[str] | None = None
) -> Any:
    """Make a particle property, in the place of one of that name and another type."""
    if values.dtype == np.int8:
        values = values.astype(np.int32)
    if title in particles:
        present = particles[title]
        if present.dtype != values.dtype or present.ndim != values.ndim or components:
            del particles[title]
    if components:
        return particles.create_property(title, data=values, components=list(components))
    return particles.create_property(title, data=values)


def component_names(spec: FieldSpec, values: NDArray[Any]) -> list[str] | None:
    """Names of the columns of a probability; None for other fields."""
    return [entry.name for entry in spec.classes[: values.shape[1]]] if spec.kind == "probability" else None


def put_classes(prop: Any, spec: FieldSpec) -> None:
    """Give a property the names and colors of the classes of its field."""
    for entry in spec.classes:
        present = prop.type_by_id(entry.id, require=False)
        if present is None:
            prop.types.append(ElementType(id=entry.id, name=entry.name, color=entry.color))
        elif (present.name, tuple(present.color)) != (entry.name, entry.color):
            present = prop.make_mutable(present)
            present.name, present.color = entry.name, entry.color


def put_atoms(data: Any, fields: Fields) -> None:
    """Write the per-atom fields as particle properties."""
    for name, values in fields.level("atom").items():
        spec = FIELD_SPECS[name]
        prop = put_property(data.particles_, spec.title, values, component_names(spec, values))
        if spec.kind == "class":
            put_classes(prop, spec)


def put_colors(data: Any, phase: NDArray[Any]) -> None:
    """Color every particle by its phase."""
    put_class_colors(data, phase, [entry.color for entry in FIELD_SPECS["phase"].classes])


def put_class_colors(data: Any, codes: NDArray[Any], colors: Sequence[tuple[float, float, float]]) -> None:
    """Color every particle by a number that says which of the colors it has."""
    data.particles_.create_property("Color", data=np.array(colors, dtype=np.float32)[codes])


def put_gradient(data: Any, values: NDArray[Any], colors: Sequence[tuple[float, float, float]]) -> None:
    """Color every particle by a value between 0 and 1, along evenly spaced colors."""
    at = np.linspace(0, 1, len(colors))
    mixed = [np.interp(values, at, [color[channel] for color in colors]) for channel in range(3)]
    data.particles_.create_property("Color", data=np.stack(mixed, axis=1).astype(np.float32))


def put_bonds(
    data: Any, bonds: Bonds, kinds: NDArray[Any], classes: Sequence[ClassName], vis: Any = None
) -> None:
    """Add bonds to those that are there, if any; what was known of the present ones stays.

    Parameters
    ----------
    bonds : their columns become bond properties, which are 0 for the present bonds
    kinds : (n_bonds,) ids of `classes`, which become bond types with ids that nothing else has
    vis : how bonds look where there are none yet
    """
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
    for name, values in bonds.columns.items():
        # OVITO's own "Length" is of float64.
        dtype = np.int32 if values.dtype.kind in "iu" else np.float64
        column(BOND_TITLES[name], dtype)[first:] = values
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


def put_grid(data: Any, name: str, grid: Grid, vis: Any = None) -> None:
    """Write the grid of a field as a voxel grid of points.

    OVITO takes isosurfaces only of float64.
    """
    spec = FIELD_SPECS[name]
    voxels = data.grids.create(
        identifier=GRIDS[name],
        title=spec.title,
        domain=_domain(data, grid),
        shape=grid.shape,
        grid_type=VoxelGrid.GridType.PointData,
    )
    voxels.create_property(spec.title, data=grid.values.astype(np.float64).ravel(order="F"))
    if vis is not None:
        voxels.vis = vis


def _domain(data: Any, grid: Grid) -> Any:
    """The cell that OVITO spans over the grid's points: along open axes from the first to the last."""
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


def put_interface(data: Any, name: str, grid: Grid, level: float, vis: Any = None) -> None:
    """Write the surface on which the grid of a field has the value of the level as a surface mesh.

    The surface is made in a clone, so that nothing else that OVITO's modifier makes is left behind.
    """
    clone = data.clone()
    put_grid(clone, name, grid)
    clone.apply(
        CreateIsosurfaceModifier(
            operate_on=f"voxels:{GRIDS[name]}", property=FIELD_SPECS[name].title, isolevel=level
        )
    )
    data.objects.append(clone.surfaces["isosurface"])
    surface = data.surfaces["isosurface_"]
    surface.identifier, surface.title = INTERFACE, "Phase interface"
    if vis is not None:
        surface.vis = vis


def put_tables(data: Any, fields: Fields) -> None:
    """Write the tables: the first column is x, columns that share a unit are the curves of one plot."""
    for name, table in fields.level("table").items():
        _put_table(data, name, table)


def _put_table(data: Any, name: str, table: Table) -> None:
    identifier, plot = PLOTS[name]
    target = data.tables.create(identifier=identifier, title=table.title, plot_mode=plot)
    first, *others = table.headings
    target.x = _put_column(target, first, table.columns[first])
    groups: dict[str, list[tuple[str, NDArray[Any]]]] = {}
    for column in others:
        title = column.unit if column.unit in ("wt%", "at%") else column
        groups.setdefault(title, []).append((column.quantity, table.columns[column]))
    made = {}
    for title, members in groups.items():
        if len(members) == 1 and title not in ("wt%", "at%"):
            made[title] = _put_column(target, title, members[0][1])
        else:
            stacked = np.stack([values.astype(np.float64) for _, values in members], axis=1)
            made[title] = target.create_property(
                f"Content ({title})", data=stacked, components=[stem.replace(".", "_") for stem, _ in members]
            )
    shown = next((made[title] for title in ("wt%", "at%") if title in made), None)
    target.y = shown if shown is not None else next(iter(made.values()))


def _put_column(table: Any, title: str, values: NDArray[Any]) -> Any:
    values = np.asarray(values)
    title = title.replace(".", "_")
    if values.dtype.kind in "US":
        prop = table.create_property(title, data=np.arange(len(values), dtype=np.int32))
        for number, text in enumerate(values.tolist()):
            prop.types.append(ElementType(id=number, name=text, color=_row_color(text)))
        return prop
    kinds = {"b": np.int32, "i": np.int64, "u": np.int64, "f": np.float64}
    return table.create_property(title, data=values.astype(kinds[values.dtype.kind]))


def _row_color(text: str) -> tuple[float, float, float]:
    """The color of the phase that the name of a row begins with; gray for others."""
    for entry in FIELD_SPECS["phase"].classes:
        if text.split(" ")[0] == entry.name:
            return entry.color
    return (0.6, 0.6, 0.6)


def put_series(
    data: Any,
    identifier: str,
    title: str,
    x: tuple[str, NDArray[Any]],
    curves: Mapping[str, NDArray[Any]],
    plot: DataTable.PlotMode = DataTable.PlotMode.Line,
) -> None:
    """Write numbers of the frames of a trajectory as the curves of one plot against x, a title and values."""
    table = data.tables.create(identifier=identifier, title=title, plot_mode=plot)
    table.x = _put_column(table, *x)
    stacked = np.stack([np.asarray(values, dtype=np.float64) for values in curves.values()], axis=1)
    table.y = table.create_property(title, data=stacked, components=list(curves))


def put_attributes(data: Any, fields: Fields, messages: Sequence[str], prefix: str = PREFIX) -> None:
    """Write scalars, the composition of each phase, the names of the phases and the messages.

    Names: `PhaseSegmentation.n_phases`, `PhaseSegmentation.rich.Fe_wt_percent`,
    `PhaseSegmentation.rich_bulk.atoms`, `GlassMetrics.n_bb_edges`.
    """
    attributes = data.attributes
    for name, value in fields.level("frame").items():
        if value is not None:
            attributes[prefix + name] = value.item() if isinstance(value, np.generic) else value
    if "composition" in fields:
        for row in fields["composition"].rows():
            phase, *_ = row.values()
            for column, value in list(row.items())[1:]:
                attributes[f"{prefix}{snake(str(phase))}.{snake(column)}"] = value
    if "phase" in fields:
        names = ",".join(f"{entry.id}={entry.name}" for entry in FIELD_SPECS["phase"].classes)
        attributes[prefix + "phase_names"] = names
    attributes[prefix + "messages"] = " ".join(messages)


# Back from files


def restore(data: Any, column: str = "") -> None:
    """Turn a column read from a file into the typed property "Phase", and rename its companions.

    Raises
    ------
    ValueError
        No particles; no such column; entries that are no phases.
    """
    particles = data.particles
    if particles is None or particles.count == 0:
        raise ValueError("the input has no particles.")
    found = {_plain(name): name for name in reversed(list(particles.keys()))}
    spec = FIELD_SPECS["phase"]
    source = column if column else found.get(_plain(spec.name), "")
    if not source or source not in particles:
        raise ValueError(
            f"the particles have no property {column or 'phase'!r}; the properties are "
            f"{', '.join(particles.keys())}."
        )
    codes = _phase_codes(particles[source], source)
    if source != spec.title:
        del data.particles_[source]
    put_classes(put_property(data.particles_, spec.title, codes), spec)
    for name in (
        "phase_density", "interface_distance", "domain", "phase_probability", "phase_uncertainty"
    ):  # fmt: skip
        title, present = FIELD_SPECS[name].title, found.get(_plain(name))
        if present is None:
            continue
        values = np.array(data.particles[present][...])
        probability = FIELD_SPECS[name].kind == "probability"
        if values.shape[1:] not in (((2,), (3,)) if probability else ((),)):
            continue
        if name == "domain" and values.dtype.kind == "f":
            values = values.astype(np.int32)
        if present != title:
            del data.particles_[present]
        put_property(data.particles_, title, values, component_names(FIELD_SPECS[name], values))


def _plain(name: str) -> str:
    """The spelling that all file formats agree on: `Phase Density` and `phase_density` are one."""
    return name.lower().replace(" ", "").replace("_", "")


def _phase_codes(prop: Any, name: str) -> NDArray[np.int32]:
    classes = FIELD_SPECS["phase"].classes
    known = ", ".join(f"{entry.id} = {entry.name}" for entry in classes)
    values = prop[...]
    if isinstance(values, list):
        table = {entry.name: entry.id for entry in classes} | {str(entry.id): entry.id for entry in classes}
        unknown = sorted({str(value) for value in values} - set(table))
        if unknown:
            raise ValueError(f"the property {name!r} holds {unknown[0]!r}, which is no phase ({known}).")
        return np.array([table[str(value)] for value in values], dtype=np.int32)
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"the property {name!r} has {values.shape[1]} components; a phase is one number.")
    bad = ~np.isin(values, [entry.id for entry in classes])
    if bad.any():
        raise ValueError(f"the property {name!r} holds {values[bad][0]}, which is no phase ({known}).")
    return values.astype(np.int32)
