"""What the Python tests share: the recording process, and the experiments that several read."""

import os
import shutil

import numpy as np
import pytest
from recording import ALL_SIGNALS, DATA_DIET, PARQUET_LEVELS, RECORD_BATCHES, Recording


def pytest_sessionstart(session):
    missing = [str(path) for path in (DATA_DIET, PARQUET_LEVELS, RECORD_BATCHES) if not path.exists()]
    if missing:
        build = "cargo build --features cli --bin data-diet --examples"
        pytest.exit(f"not built: {', '.join(missing)}; run `{build}`, or tests/run", returncode=1)


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A Spark session in this process; starting one takes seconds."""
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("NO JAVA FOUND: SPARK IS NOT TESTED; install a Java 17 runtime")
    from pyspark.sql import SparkSession

    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def recording(tmp_path_factory):
    recording = Recording(tmp_path_factory.mktemp("arrays"))
    yield recording
    recording.close()


@pytest.fixture
def experiment(tmp_path):
    return tmp_path / "experiment"


class SmallExperiment:
    """Two runs of 3 epochs over 60 examples and 7 classes, and the arrays that went in.

    Training batches of 16 in an order of its own for each run and epoch; a score pass after every
    epoch. Every signal, logits as float32. `observations` holds one tuple per row that must come
    out: run, phase, step, epoch, example, label.
    """

    RUNS, EPOCHS, EXAMPLES, CLASSES, BATCH = ("seed-0", "seed-1"), 3, 60, 7, 16

    def __init__(self, path, recording: Recording):
        self.path = path
        self.observations = []
        self.logits = []
        for seed, run in enumerate(self.RUNS):
            random = np.random.default_rng(seed)
            ids = np.arange(self.EXAMPLES) * 1_000_000_007
            labels = ids % self.CLASSES
            step = 0
            recording.open(path, run, self.CLASSES, seed=seed, signals=ALL_SIGNALS)
            for epoch in range(self.EPOCHS):
                order = random.permutation(self.EXAMPLES)
                logits = self._logits(random, labels, order, epoch)
                rows = (ids[order], labels[order], logits)
                recording.record("train", *rows, epoch=epoch, batch_rows=self.BATCH)
                for row, place in enumerate(order):
                    at = step + row // self.BATCH
                    self._add(run, "train", at, epoch, ids[place], labels[place], logits[row])
                step += -(-self.EXAMPLES // self.BATCH)
                logits = self._logits(random, labels, np.arange(self.EXAMPLES), epoch)
                recording.record("score", ids, labels, logits, epoch=epoch + 1, batch_rows=32)
                for place in range(self.EXAMPLES):
                    row = (ids[place], labels[place], logits[place])
                    self._add(run, "score", step, epoch + 1, *row)
            report = recording.finish()
            assert report["status"] == "finished", report
        self.logits = np.array(self.logits, dtype=np.float32)

    def _logits(self, random, labels, order, epoch):
        """Noise about the right answer, which grows with the epochs: some examples are forgotten."""
        logits = random.normal(size=(self.EXAMPLES, self.CLASSES)).astype(np.float32)
        logits[np.arange(self.EXAMPLES), labels[order]] += 0.8 * epoch
        return logits

    def _add(self, run, phase, step, epoch, example, label, logits):
        self.observations.append((run, phase, step, epoch, int(example), int(label)))
        self.logits.append(logits)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    recording = Recording(tmp_path_factory.mktemp("arrays"))
    try:
        return SmallExperiment(tmp_path_factory.mktemp("small") / "experiment", recording)
    finally:
        recording.close()


@pytest.fixture(scope="session")
def folds(tmp_path_factory):
    """Three runs, each of which holds out another third of the examples and has no score phase."""
    path = tmp_path_factory.mktemp("folds") / "experiment"
    recording = Recording(tmp_path_factory.mktemp("arrays"))
    for fold in range(3):
        random = np.random.default_rng(fold)
        recording.open(path, f"fold-{fold}", 4, logits="off")
        for epoch in range(2):
            for phase in ["train", "held_out"]:
                ids = np.arange(48)
                ids = ids[(ids % 3 == fold) == (phase == "held_out")]
                logits = 2 * random.normal(size=(len(ids), 4)).astype(np.float32)
                recording.record(phase, ids, ids % 4, logits, epoch=epoch, batch_rows=8)
        assert recording.finish()["status"] == "finished"
    recording.close()
    return path


@pytest.fixture(scope="session")
def ten_runs(tmp_path_factory):
    """Ten runs, as the paper averages over; the last two miss some examples and an epoch."""
    path = tmp_path_factory.mktemp("ten") / "experiment"
    recording = Recording(tmp_path_factory.mktemp("arrays"))
    for run in range(10):
        random = np.random.default_rng(run)
        ids = np.arange(50 if run < 8 else 40)
        recording.open(path, f"seed-{run}", 4, logits="off")
        for epoch in range(3 if run < 9 else 2):
            for phase, batch_rows in [("train", 8), ("score", 50)]:
                logits = 2 * random.normal(size=(len(ids), 4)).astype(np.float32)
                # One example whose logits break now and then, and must be left out of the means.
                logits[17] *= np.where(run == 3 and epoch == 1, np.nan, 1)
                order = random.permutation(len(ids))
                rows = (ids[order], ids[order] % 4, logits[order])
                recording.record(phase, *rows, epoch=epoch, batch_rows=batch_rows)
        assert recording.finish()["status"] == "finished"
    recording.close()
    return path
