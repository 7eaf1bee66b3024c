"""Readers while training still writes: no error, no hole, and a count that never falls."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as dataset
import pytest
from recording import data_diet

ROWS, CLASSES = 16, 3
# Enough queries to meet parts at every moment of their publication.
QUERIES, GROWTHS = 80, 16
COMMAND_GROWTHS = 5


def by_polars(table):
    return pl.scan_parquet(table).select("step", "example").collect()


def by_pandas(table):
    return pl.from_pandas(pd.read_parquet(table, columns=["step", "example"]))


def by_duckdb(table):
    return duckdb.sql(f"SELECT step, example FROM read_parquet('{table}/**/*.parquet')").pl()


def by_pyarrow(table):
    columns = ["step", "example"]
    return pl.from_arrow(dataset.dataset(table, partitioning="hive").to_table(columns=columns))


def start(recording, experiment, publish_interval_ms=20):
    """Starts a training that publishes a part every few batches, and waits for the first one."""
    options = {"flush_rows": 2 * ROWS, "publish_interval_ms": publish_interval_ms}
    recording.open(experiment, "seed-0", CLASSES, **options)
    ids = np.arange(ROWS)
    logits = np.random.default_rng(1).normal(size=(ROWS, CLASSES)).astype(np.float32)
    # Something has to be there: a scan of a directory without files is an error of the readers.
    recording.record("train", ids, ids % CLASSES, logits, epoch=0)
    recording.flush()
    recording.repeat("train", ids, ids % CLASSES, logits, pause_ms=1)
    for table in ("observations", "logits"):
        while not any((experiment / table).rglob("*.parquet")):
            recording.assert_alive()


def finish(recording):
    """Ends the training, and returns the rows that it recorded."""
    recorded = ROWS + recording.stop_repeating()
    assert recording.finish()["rows"]["written"] == recorded
    return recorded


def assert_whole(rows):
    """Every step from the first to the last is there, with each of its examples once."""
    steps = rows.group_by("step").agg(pl.col("example").sort()).sort("step")
    assert steps["step"].to_list() == list(range(steps.height))
    assert (steps["example"] == pl.Series([list(range(ROWS))])).all()


@pytest.mark.parametrize("table", ["observations", "logits"])
@pytest.mark.parametrize("read", [by_polars, by_pandas, by_duckdb, by_pyarrow])
def test_reading_in_a_loop(recording, experiment, read, table):
    start(recording, experiment)
    counts = []
    while len(counts) < QUERIES or len(set(counts)) < GROWTHS:
        rows = read(experiment / table)
        assert_whole(rows)
        assert not counts or rows.height >= counts[-1]
        counts.append(rows.height)
        assert len(counts) < 100 * QUERIES, "training does not go on"
    recorded = finish(recording)
    rows = read(experiment / table)
    assert rows.height == recorded
    assert_whole(rows)


def test_the_command_line_in_a_loop(recording, experiment, tmp_path):
    # Slower than for the readers: every command starts a process, and reads what piled up meanwhile.
    start(recording, experiment, publish_interval_ms=200)
    output = tmp_path / "scores.parquet"
    presentations = []
    while len(set(presentations)) < COMMAND_GROWTHS:
        data_diet("scores", experiment, "-o", output)
        scores = pl.read_parquet(output)
        # One batch of all examples per step: each was presented equally often.
        assert scores["example"].to_list() == list(range(ROWS))
        assert scores["presentations_mean"].n_unique() == 1
        presentations.append(scores["presentations_mean"][0])
        assert "running" in data_diet("inspect", experiment).stdout
        data_diet("verify", experiment)
        assert len(presentations) < 100 * COMMAND_GROWTHS, "training does not go on"
    assert presentations == sorted(presentations)
    recorded = finish(recording)
    data_diet("scores", experiment, "-o", output)
    assert pl.read_parquet(output)["presentations_mean"][0] * ROWS == recorded
