"""Mutated arguments of every word of the command line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from typer.testing import CliRunner

from faces.command_line import melt
from fuzz.frames import warm
from fuzz.mutations import NUMBERS, WORDS
from fuzz.readers import FOLDER
from fuzz.report import Fault
from phaseseg import cli
from phaseseg.checkpoint import save_checkpoint
from phaseseg.io import write_frames
from samples import cooled, random_glass_checkpoint, share_checkpoint

KEPT = "written before\n"
OUTPUTS = ("out.xyz", "out.csv", "out.json", "out.dump.gz", "out.xyz.zst", "out.npz")
LONG = {
    "--epochs",
    "--steps",
    "--n",
    "--replicate",
    "--cooling-steps",
    "--equilibration-steps",
    "--equilibration",
}
"""A large number for one of these is a long calculation, no fault."""
SHORT = ("-1", "0", "nan", "x", "", "1.5", "99999999999999999999999")


@cache
def places() -> dict[str, str]:
    """Valid inputs by the word that stands for them below."""
    folder = FOLDER.with_name(FOLDER.name + "-inputs")
    folder.mkdir(exist_ok=True)
    write_frames(folder / "melt.xyz", [(melt(seed, 300), {}) for seed in (0, 1)])
    (folder / "melt.dump").write_bytes(b"")
    write_frames(folder / "melt.dump", [(melt(2, 300), {})])
    write_frames(folder / "run.xyz", [(frame, {}) for frame in cooled(n=100)])
    pair = share_checkpoint("segmentation/pair-v1", n_members=2, species=("Fe", "O"))
    save_checkpoint(pair, folder / "pair-v1.safetensors")
    save_checkpoint(random_glass_checkpoint(attention=True), folder / "glass-v1.safetensors")
    known = {"MELT": "melt.xyz", "DUMP": "melt.dump", "RUN": "run.xyz", "PAIR": "pair-v1.safetensors",
             "GLASS": "glass-v1.safetensors"}  # fmt: skip
    return {word: str(folder / name) for word, name in known.items()}


COMMANDS = (
    "label MELT -o OUT.xyz --sigma 1.5 --min-volume 50 --frames 0:2",
    "label DUMP -o OUT.csv --species Fe --voxel 1.0 --threshold steepest --keep all --phases 2 --json",
    "label MELT -o OUT.json --average 0.1 --dt 0.001 --field mole-fraction --at voxel --boundary-width 1",
    "predict MELT -m PAIR -o OUT.dump.gz --threshold 0.5 --keep largest --device cpu",
    "predict RUN -m GLASS -o OUT.json --b B --attention-threshold 1.0 --units lj --workers 1",
    "evaluate MELT -m PAIR --boundary-width 0.68 --frames 0:1 --json",
    "metrics RUN RUN -o OUT.csv --temperature temperature --k 2 --rule all --bootstrap 10 --tg 0.4",
    "metrics RUN -o OUT.json --temperatures 2.0,0.5,0.05 --b B --slabs 2",
    "select MELT MELT -m PAIR -n 1 -o OUT.csv --labeled MELT",
    "models show PAIR --json", "models verify GLASS", "models list --family segmentation", "models path PAIR",
    "train segmentation MELT -o OUT.safetensors --epochs 0 --seed 1 --hidden 4",
    "train liquid_glass RUN -o OUT.safetensors --epochs 0 --glass-below 0.1 --liquid-above 1",
    "simulate melt -o OUT.dump --temperature 3000 --replicate 0 --steps 0 --seed 1",
    "simulate ka2d -o OUT.xyz --n 0 --b-fraction 0.35 --temperatures 1.9,0.4",
    "simulate ka3d -o OUT.xyz --n 0 --density 1.2 --seed 1",
    "simulate ka3d -o OUT.npz --n 0 --isoconfigurational 2 --times 0.5,1 --temperature 0.6 --systems 2",
)  # fmt: skip
FLAGS = sorted({word for line in COMMANDS for word in line.split() if word.startswith("-")} | {
    "--report", "--pooled", "--boundary-scan", "--quiet", "--json", "--types", "--format", "--attention",
    "--reference", "--members", "--baselines", "--help", "--version", "--search", "--resume", "--x",
})  # fmt: skip


TEXTS = (
    "MELT", "PAIR", "RUN", "GLASS", "/dev/null", "/dev/full", "/", ".", "no/such/file.xyz", "OUT.xyz",
    "OUT.csv", "0:1", "::", "0:0", "5:1", "-1", "1:2:3:4", "Fe,O", "Fe,,O", ",", "steepest", "auto", "2",
    "cuda", "torch", "lammps-dump", "extxyz", "vasp", "segmentation/none-v1", "~", "*", "-",
)  # fmt: skip


def _value(flag: str, random: Random) -> str:
    if flag in LONG:
        return random.choice(SHORT)
    kind = random.random()
    if kind < 0.4:
        return random.choice(NUMBERS)
    if kind < 0.7:
        return random.choice(WORDS)
    return random.choice(TEXTS)


def _argv(random: Random) -> list[str]:
    argv = random.choice(COMMANDS).split()
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(1, len(argv))
        kind = random.randrange(6)
        if kind <= 2:
            argv[at] = _value(argv[at - 1], random)
        elif kind == 3:
            del argv[at]
        elif kind == 4:
            flag = random.choice(FLAGS)
            argv[at:at] = [flag] if random.random() < 0.4 else [flag, _value(flag, random)]
        else:
            other = random.randrange(1, len(argv))
            argv[at], argv[other] = argv[other], argv[at]
        if len(argv) < 2:
            break
    return argv


__all__ = ["run", "warm"]


def run(kind: str, random: Random) -> str:
    """Run one command; return what became of it."""
    known, argv = places(), _argv(random)
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        if old.is_dir():
            for one in old.iterdir():
                one.unlink()
            old.rmdir()
        else:
            old.unlink()
    suffixes = (".xyz", ".csv", ".json", ".dump.gz", ".safetensors", ".dump", ".xyz.zst", ".npz")
    names = [f"out{suffix}" for suffix in suffixes]
    for name in names:
        (FOLDER / name).write_text(KEPT)
    before = {path: Path(path).read_bytes() for path in known.values()}
    argv = [known.get(one, one.replace("OUT", str(FOLDER / "out"))) for one in argv]
    if "--report" in argv and argv.index("--report") + 1 < len(argv):
        argv[argv.index("--report") + 1] = str(FOLDER / "report")
    result = CliRunner().invoke(cli.app, argv)
    for path, content in before.items():
        if Path(path).read_bytes() != content:
            Path(path).write_bytes(content)
            raise Fault(f"an input was changed by {argv}")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    said = result.stderr
    if "Traceback" in said or result.exit_code not in (0, 1, 2, 3):
        raise Fault(f"exit code {result.exit_code} of {argv}: {said[-300:]}")
    if result.exit_code and "--help" not in argv:
        lost = [
            name for name in names if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != KEPT
        ]
        if lost:
            raise Fault(f"{lost} is lost by {argv}: {said[-200:]}")
        lines = [line for line in said.splitlines() if line.strip()]
        informs = "Usage: " in result.stdout or "failed  " in result.stdout  # help, or a list of checkpoints
        if not informs and not (lines and lines[-1].startswith(("phaseseg: ", "╰", "Error"))):
            raise Fault(f"the last line of {argv} is no sentence: {said[-300:]}")
    leftover = [path.name for path in FOLDER.iterdir() if path.name.startswith(".")]
    if leftover:
        raise Fault(f"{leftover} is left behind by {argv}")
    return f"exit {result.exit_code}"
