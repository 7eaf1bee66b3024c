"""Cases measured beside each other: each a process of its own, in turn, so that its time and its peak
memory are its own and a machine that slows down slows all of them."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[2]
# Where cargo builds.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))


@dataclass
class Measured:
    """One process: seconds on the wall, seconds of CPU over all threads, peak resident MiB."""

    wall: float
    cpu: float
    peak: float


def measure(command: list[str]) -> Measured:
    """Runs a command to its end; a command that fails ends the benchmark."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # `wait4` tells what this one child has used; `getrusage` would add up all of them.
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turn(cases: dict[str, list[str]], rounds: int) -> dict[str, Measured]:
    """Runs cases A B C A B C ... after one round that does not count; the median of each figure."""
    measured: dict[str, list[Measured]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, command in cases.items():
            result = measure(command)
            if turn > 0:
                measured[name].append(result)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    figures = ("wall", "cpu", "peak")
    return {
        name: Measured(*(median(getattr(run, figure) for run in runs) for figure in figures))
        for name, runs in measured.items()
    }


def table(title: str, results: dict[str, Measured], ours: str) -> None:
    """Prints every case, with its ratio to the case called `ours`."""
    print(f"\n{title}")
    print(f"{'':<24} {'wall s':>8} {'ratio':>6} {'CPU s':>8} {'ratio':>6} {'peak MiB':>9} {'ratio':>6}")
    base = results[ours]
    for name, result in results.items():
        print(
            f"{name:<24} {result.wall:8.2f} {result.wall / base.wall:6.2f} {result.cpu:8.2f} "
            f"{result.cpu / base.cpu:6.2f} {result.peak:9.0f} {result.peak / base.peak:6.2f}"
        )
