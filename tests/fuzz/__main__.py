"""Run mutated inputs: `cd tests && python -m fuzz --kind dump --n 10000 --seed 0`.

`--only NUMBER` runs one input in this process and shows its traceback. `--kind all` runs every kind. Faults
are appended to `--log` as lines of JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

from fuzz.kinds import KINDS, runner
from fuzz.watchdog import watch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--kind", choices=(*KINDS, "all"), default="all")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    for kind in KINDS if given.kind == "all" else (given.kind,):
        if given.only is not None:
            print(runner(kind)(kind, Random(f"{kind} {given.seed} {given.only}")))
        else:
            print(watch(kind, given.n, given.seed, given.start, log=given.log), flush=True)


if __name__ == "__main__":
    main()
