"""This version against another checkout, in CPU time of one thread, in processes that alternate.

    git worktree add ../earlier COMMIT
    PHASESEG_BENCHMARK=large python tests/benchmarks/against.py ../earlier     (33 k, 1 M and 10 M atoms)

Both run with the packages of this environment. Weak labels have sigma 2.1 Å and voxels of 1 Å. The first
network of a checkpoint runs, from a frame in memory to labels, interface and tables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path

REPLICAS = [(1, 1, 1)]
if os.environ.get("PHASESEG_BENCHMARK") == "large":
    REPLICAS += [(2, 3, 5), (5, 6, 10)]
TASKS = ("labels", "segmentation/gat-3000K-v1", "segmentation/gcn-3000K-v1", "segmentation/gat-v1")


def measure(task: str, replicas: tuple[int, int, int]) -> float:
    """Least CPU time of some runs, seconds, with whatever version can be imported."""
    from phaseseg import label_phases
    from phaseseg.checkpoint import Checkpoint, load_checkpoint
    from phaseseg.io import read_frames
    from phaseseg.testing import repeated

    with as_file(files("phaseseg") / "demo" / "melt_large_3000K.dump.gz") as path:
        melt = list(read_frames(path, types=("Fe", "Mg", "Si", "O", "N")))[-1]
    if task == "labels":

        def run(frame):
            return label_phases(frame, "Fe", sigma=2.1, voxel=1.0)
    else:
        try:
            from phaseseg.families.segmentation.model import SegmentationModel
        except ImportError:  # version 0.1.0
            from phaseseg.families.segmentation.prediction import SegmentationModel
        whole = load_checkpoint(task)
        score = whole.config["score"]
        config = {**whole.config, "score": {**score, **{key: score[key][:1] for key in ("scale", "offset")}}}
        weights = {k: v for k, v in whole.weights.items() if k.startswith(("feature.", "member0."))}
        model = SegmentationModel(Checkpoint("segmentation", task, config, weights, ranges=whole.ranges))

        def run(frame):
            return model.fields(frame, model.score(frame))

    run(melt)  # compiles
    frame, times = repeated(melt, replicas), []
    for _ in range(15 if len(frame) < 100_000 else 2):
        start = time.process_time()
        run(frame)
        times.append(time.process_time() - start)
    return min(times)


def main(other: str) -> None:
    ours = Path(__file__).resolve().parents[2]
    for replicas in REPLICAS:
        for task in TASKS:
            found = {}
            for _ in range(2):
                for folder in (Path(other).resolve(), ours):
                    result = subprocess.run(
                        [sys.executable, __file__, "--measure", task, *map(str, replicas)],
                        env={**os.environ, "PYTHONPATH": str(folder / "models"), "NUMBA_NUM_THREADS": "1"},
                        capture_output=True, text=True, check=True,
                    )  # fmt: skip
                    found.setdefault(folder, []).append(json.loads(result.stdout.splitlines()[-1]))
            before, now = map(min, found.values())
            n = 33_280 * replicas[0] * replicas[1] * replicas[2]
            print(
                f"{n:>10,} atoms  {task:26} {before:7.3f} s  {now:7.3f} s  ratio {now / before:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(sys.argv[2], tuple(map(int, sys.argv[3:])))))
    else:
        main(sys.argv[1])
