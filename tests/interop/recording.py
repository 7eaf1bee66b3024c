"""Drives the `record_batches` example: what a test records goes through the candle hook.

Arrays travel as raw little-endian files, commands as JSON lines; see `record_batches.rs`.
"""

import itertools
import json
import os
import subprocess
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "debug"
DATA_DIET = BINARIES / "data-diet"
RECORD_BATCHES = BINARIES / "examples" / "record_batches"
PARQUET_LEVELS = BINARIES / "examples" / "parquet_levels"

ALL_SIGNALS = ["el2n", "loss", "margin", "el1n", "confidence", "entropy"]


DTYPES = {
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "uint16": "bf16",
    "int64": "i64",
}


class Refused(Exception):
    """The driver answered with an error."""


class Recording:
    """One process that records runs, one after the other."""

    def __init__(self, scratch: Path):
        self._scratch = scratch
        self._names = itertools.count()
        self._process = subprocess.Popen(
            [RECORD_BATCHES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, experiment: Path, run: str, classes: int, **options):
        self._tell(command="open", experiment=str(experiment), run=run, classes=classes, **options)

    def open_with_weights(self, experiment: Path, run: str, weights: dict, **options):
        """Opens a run of two classes that records these arrays before every step.

        An array is float32, float64, float16, int64, or uint16 holding the bits of bfloat16.
        """
        described = [
            {
                "name": name,
                "dtype": DTYPES[values.dtype.name],
                "shape": list(values.shape),
                "values": self._file(np.ascontiguousarray(values)),
            }
            for name, values in weights.items()
        ]
        self.open(experiment, run, 2, weights=described, **options)

    def record(self, phase: str, ids, labels, logits, **options):
        """Records one pass: `labels` are class indices `[rows]` or soft targets `[rows, classes]`.

        `logits` is float32, float64, float16, or uint16 holding the bits of bfloat16; for the phase
        "grand" it holds one gradient norm per row instead.
        """
        return self._tell(command="record", **self._rows(phase, ids, labels, logits), **options)

    def repeat(self, phase: str, ids, labels, logits, pause_ms: int, **options):
        """Records the same rows epoch after epoch until the next call of any method."""
        rows = {**self._rows(phase, ids, labels, logits), **options}
        self._send(command="repeat", rows=rows, pause_ms=pause_ms)

    def stop_repeating(self) -> int:
        """Ends `repeat` and returns the number of rows that it recorded."""
        self._send(command="flush")
        recorded = self._answer()
        self._answer()
        return recorded

    def geometry(self, experiment: Path, run: str, velocities=(), barriers=()):
        """Appends one part to each of the geometry's tables; returns the number of rows and curves."""
        rows = {"velocities": list(velocities), "barriers": list(barriers)}
        return self._tell(command="geometry", experiment=str(experiment), run=run, **rows)

    def flush(self):
        self._tell(command="flush")

    def finish(self):
        return self._tell(command="finish")

    def kill(self):
        """Ends the process as a crash does."""
        self._process.kill()
        self._process.wait()

    def assert_alive(self):
        assert self._process.poll() is None, f"record_batches ended: {self._process.returncode}"

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def _rows(self, phase, ids, labels, logits):
        logits = np.ascontiguousarray(logits)
        labels = np.asarray(labels)
        # Class indices of tokens have two dimensions, too.
        soft = labels.ndim == 2 and labels.dtype.kind == "f"
        return {
            "phase": phase,
            "ids": self._file(np.asarray(ids, dtype="<i8")),
            "soft_targets" if soft else "labels": self._file(labels.astype("<f4" if soft else "<i8")),
            "logits": self._file(logits),
            "dtype": DTYPES[logits.dtype.name],
        }

    def _file(self, array) -> str:
        path = self._scratch / f"array-{next(self._names)}"
        array.tofile(path)
        return str(path)

    def _tell(self, **command):
        self._send(**command)
        return self._answer()

    def _send(self, **command):
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"record_batches ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]


def record_history(recording, experiment, run, history, **options):
    """Records presentations in order: `history` is a list of batches of (id, correct)."""
    recording.open(experiment, run, 2, logits="off", **options)
    for batch in history:
        ids = [example for example, _ in batch]
        # Label 0 everywhere: the larger of two logits decides whether it is right.
        logits = np.array([[1, 0] if right else [0, 1] for _, right in batch], dtype=np.float32)
        recording.record("train", ids, np.zeros(len(ids)), logits)
    assert recording.finish()["status"] == "finished"


def data_diet(*arguments, expect: int = 0) -> subprocess.CompletedProcess:
    """Runs the command line; a status other than `expect` fails with both of its streams."""
    if arguments[0] in ("filter", "scores"):
        # Tests write the same output again and again.
        arguments = (*arguments, "--force")
    done = subprocess.run(
        [DATA_DIET, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, (
        f"data-diet {' '.join(map(str, arguments))} ended with {done.returncode}, not {expect}\n"
        f"stdout:\n{done.stdout}\nstderr:\n{done.stderr}"
    )
    return done


def run_metadata(experiment: Path, run: str) -> dict:
    return json.loads((experiment / "_runs" / run / "run.json").read_text())
