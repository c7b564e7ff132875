"""Runs many inputs in one process, which is replaced if it dies, hangs or takes too much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random
from select import select

from fuzz.report import Fault, signature

SECONDS, GIGABYTES = 20.0, 2.0
STARTING = 300.0
"""Seconds for the imports of a worker, which may compile."""
LONGEST = 600.0
"""Seconds on the clock for one input on a busy machine."""


def worker(kind: str, start: int, stop: int, seed: int) -> None:
    """Run the inputs `start` to `stop`; print the number of each input, then its outcome as JSON."""
    from fuzz.kinds import runner

    run = runner(kind)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an input prints does not mix with the protocol
    base = _megabytes("VmHWM")
    out.write(json.dumps({"base": base}) + "\n")
    for number in range(start, stop):
        out.write(f"{number}\n")
        entry = one(run, kind, seed, number)
        if entry is not None:
            out.write(json.dumps(entry) + "\n")
    out.write("end\n")


def one(run: object, kind: str, seed: int, number: int) -> dict[str, object] | None:
    """Run one input; return a description of its outcome."""
    try:
        return {"number": number, "outcome": run(kind, Random(f"{kind} {seed} {number}"))}  # type: ignore[operator]
    except Fault as fault:
        cause = f" [{signature(fault.__cause__)}]" if fault.__cause__ else ""
        return {"number": number, "fault": f"Fault: {fault}{cause}"}
    except (Exception, SystemExit) as error:
        return {"number": number, "fault": signature(error)}


def _megabytes(name: str, process: int | str = "self") -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def _processor_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Tally:
    """Outcomes of the inputs of one kind, and the faults with their numbers."""

    kind: str
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0

    def groups(self) -> dict[str, list[int]]:
        """Return the numbers of the inputs by fault, without the digits that differ."""
        found: dict[str, list[int]] = {}
        for number, text in self.faults:
            found.setdefault(text.split(": ")[0] + ": " + text.partition(": ")[2][:90], []).append(number)
        return found

    def __str__(self) -> str:
        n = sum(self.outcomes.values()) + len(self.faults)
        rate = n / self.seconds if self.seconds else 0.0
        counts = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        lines = [f"{self.kind}: {n:,} inputs, {rate:.0f} per second; {counts}; {len(self.faults)} faults"]
        for text, numbers in sorted(self.groups().items(), key=lambda item: -len(item[1])):
            lines.append(f"  {len(numbers)} x {text}  (--seed {self.seed} --only {numbers[0]})")
        return "\n".join(lines)


def watch(
    kind: str, n: int, seed: int = 0, start: int = 0, *, log: Path | None = None, seconds: float = SECONDS,
    gigabytes: float = GIGABYTES,
) -> Tally:  # fmt: skip
    """Run `n` inputs of a kind in worker processes, one at a time."""
    tally, number, began = Tally(kind, seed), start, time.monotonic()
    while number < start + n:
        number = _watch_one(tally, number, start + n, log, seconds, gigabytes)
    tally.seconds = time.monotonic() - began
    return tally


def _watch_one(
    tally: Tally, start: int, stop: int, log: Path | None, seconds: float, gigabytes: float
) -> int:
    """Run one worker to its end; return the number after its last input."""
    code = f"from fuzz.watchdog import worker; worker({tally.kind!r}, {start}, {stop}, {tally.seed})"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as process:  # fmt: skip
        try:
            return _followed(process, tally, start, stop, log, seconds, gigabytes)
        finally:
            process.kill()


def _followed(
    process: subprocess.Popen[bytes], tally: Tally, start: int, stop: int, log: Path | None, seconds: float,
    gigabytes: float,
) -> int:  # fmt: skip
    assert process.stdout is not None
    number, base, rest = start - 1, inf, b""
    # Seconds of the processor count, because other programs may keep it busy.
    allowed, used, deadline = STARTING, 0.0, time.monotonic() + LONGEST
    while True:
        if select([process.stdout], [], [], 0.1)[0]:
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + chunk).split(b"\n")
            if b"end" in lines:
                stop, chunk = -1, b"end"
            for entry in map(json.loads, (line for line in lines if line != b"end")):
                if isinstance(entry, int):
                    number, allowed, used = entry, seconds, _processor_seconds(process.pid)
                    deadline = time.monotonic() + (seconds if seconds < 1 else LONGEST)
                elif "base" in entry:
                    base = entry["base"]
                else:
                    _put(tally, entry, log)
            if stop < 0:
                return number + 1
            if not chunk:
                text = f"died with code {process.wait()}"
                break
        if time.monotonic() > deadline or _processor_seconds(process.pid) - used > allowed:
            text = f"hung for {seconds:g} s"
            break
        if _megabytes("VmHWM", process.pid) - base > gigabytes * 1024:
            text = f"took more than {gigabytes:g} GB"
            break
    _put(tally, {"number": number, "fault": text}, log)
    return max(number, start) + 1


def _put(tally: Tally, entry: dict[str, object], log: Path | None) -> None:
    if "fault" in entry:
        tally.faults.append((int(str(entry["number"])), str(entry["fault"])))
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps({"kind": tally.kind, "seed": tally.seed, **entry}) + "\n")
    else:
        tally.outcomes[str(entry["outcome"])] += 1
