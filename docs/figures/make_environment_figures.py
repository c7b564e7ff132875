"""Make the figures of docs/environments.md with the calls that stand there.

    python docs/figures/make_environment_figures.py

Takes half a minute on one core.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from phaseseg.families.environments.dataset import read_data_set
from phaseseg.families.environments.descriptors import PowerSpectrum
from phaseseg.families.environments.mining import Mined, mine
from phaseseg.families.environments.mining_figures import draw_environment
from phaseseg.families.environments.mining_tables import mined_tables, typical_atoms
from phaseseg.families.environments.report_mine import figures_of
from phaseseg.report import png, styled

HERE = Path(__file__).parent


@styled
def clusters_figure(mined: Mined) -> Figure:
    """The most typical environment of every cluster, with its most frequent group."""
    atoms, data = typical_atoms(mined), mined.data
    figure = Figure(figsize=(8.6, 1.9 * -(-len(atoms) // 7)), layout="constrained")
    places = figure.subplots(-(-len(atoms) // 7), 7).ravel()
    for place, row in zip(places, mined_tables(mined)["clusters"].rows(), strict=False):
        atom = atoms[row["cluster"]]
        k = int(data.configurations[atom])
        draw_environment(place, data.frames[k], int(atom - data.starts[k]))
        group = row["groups"].split(",")[0].replace("_", " ")
        place.set_title(f"{row['cluster']}: {row['atoms']:,} atoms\n{group}", fontsize=7.5)
    for place in places[len(atoms) :]:
        place.remove()
    return figure


def save(picture: bytes, name: str) -> None:
    """Write a small PNG."""
    with Image.open(BytesIO(picture)) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        small.save(HERE / f"environments-{name}.png", format="PNG", optimize=True)


def main() -> None:
    with as_file(files("phaseseg") / "demo" / "metals.xyz.gz") as path:
        data = read_data_set(path)
    descriptor = PowerSpectrum(data.species, cutoff=4.0)
    mined = mine(data, descriptor=descriptor, outliers=True, audit=True, budget=0.05)
    for name, _, figure in figures_of(mined):
        if name in ("map", "coverage", "labels"):
            save(png(figure, 140), name)
    save(png(clusters_figure(mined), 140), "clusters")


if __name__ == "__main__":
    main()
