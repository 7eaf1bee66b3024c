"""Polars, pandas, DuckDB and pyarrow open a table by its directory and read identical values."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as dataset
import pytest
from recording import ALL_SIGNALS

COLUMNS = ["run", "phase", "rank", "step", "epoch", "example", "label", "correct", *ALL_SIGNALS]


def read_polars(directory):
    return pl.scan_parquet(directory).collect()


def read_polars_streaming(directory):
    return pl.scan_parquet(directory).collect(engine="streaming")


def read_pandas(directory):
    frame = pd.read_parquet(directory)
    # Partition columns come as categories.
    return pl.from_pandas(frame.astype({"run": str, "phase": str, "rank": "int64"}))


def read_duckdb(directory):
    return duckdb.sql(f"FROM read_parquet('{directory}/**/*.parquet')").pl()


def read_pyarrow(directory):
    return pl.from_arrow(dataset.dataset(directory, partitioning="hive").to_table())


READERS = [read_polars, read_polars_streaming, read_pandas, read_duckdb, read_pyarrow]


def keys(frame):
    """Run, phase, step, epoch, example and label of every row, in the order of the frame."""
    columns = ["run", "phase", "step", "epoch", "example", "label"]
    return list(frame.select(columns).iter_rows())


def in_order(frame):
    return frame.sort("run", "phase", "step", "example")


@pytest.mark.parametrize("read", READERS)
def test_observations(small, read):
    frame = read(small.path / "observations")
    assert set(frame.columns) == set(COLUMNS)
    assert sorted(keys(frame)) == sorted(small.observations)
    assert frame["rank"].to_list() == [0] * frame.height
    assert frame["rank"].dtype.is_integer()


@pytest.mark.parametrize("read", READERS[1:])
def test_every_reader_reads_the_same_bits(small, read):
    expected = in_order(read_polars(small.path / "observations"))
    frame = in_order(read(small.path / "observations"))
    for name in ALL_SIGNALS:
        assert frame[name].dtype == pl.Float32
        bits, expected_bits = (
            values[name].to_numpy().view(np.uint32) for values in (frame, expected)
        )
        np.testing.assert_array_equal(bits, expected_bits, err_msg=name)
    for name in ["step", "epoch", "label", "correct"]:
        assert frame[name].dtype == expected[name].dtype
        assert frame[name].equals(expected[name]), name


@pytest.mark.parametrize("read", READERS)
def test_logits_are_what_was_recorded(small, read):
    frame = read(small.path / "logits")
    # Rows of one run and phase come in the order in which they were recorded.
    of_run = [
        (phase, np.array(rows["logits"].to_list(), dtype=np.float32))
        for (run, phase), rows in frame.group_by("run", "phase", maintain_order=True)
        if run == "seed-0"
    ]
    assert len(of_run) == 2
    for phase, logits in of_run:
        recorded = [
            values
            for row, values in zip(small.observations, small.logits)
            if row[:2] == ("seed-0", phase)
        ]
        np.testing.assert_array_equal(logits, np.array(recorded))


def recorded_logits(recording, experiment, logits_format, rows=50, classes=9):
    random = np.random.default_rng(2)
    logits = random.normal(size=(rows, classes)).astype(np.float32)
    logits[3, 4] = logits[3, 2] = logits[3].max() + 1
    recording.open(experiment, "seed-0", classes, logits=logits_format)
    recording.record("train", np.arange(rows), np.arange(rows) % classes, logits, batch_rows=8)
    assert recording.finish()["status"] == "finished"
    return logits


@pytest.mark.parametrize("read", READERS)
def test_logits_as_half_precision_binary(recording, experiment, read):
    logits = recorded_logits(recording, experiment, "f16")
    cells = read(experiment / "logits").sort("example")["logits"].to_list()
    stored = np.frombuffer(b"".join(cells), dtype="<f2").reshape(logits.shape)
    np.testing.assert_array_equal(stored, logits.astype(np.float16))


@pytest.mark.parametrize("read", READERS)
def test_largest_logits_with_their_classes(recording, experiment, read):
    logits = recorded_logits(recording, experiment, {"top_k": 3})
    frame = read(experiment / "logits").sort("example")
    # Largest first, the lower class first where two are equal.
    classes = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(np.array(frame["classes"].to_list()), classes)
    values = np.array(frame["logits"].to_list(), dtype=np.float32)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, classes, axis=1))
    assert classes[3, :2].tolist() == [2, 4]


@pytest.mark.parametrize("read", READERS)
def test_several_ranks_and_parts(recording, experiment, read):
    for rank in range(2):
        recording.open(experiment, "seed-0", 3, rank=rank, logits="off", publish_interval_ms=0)
        for part in range(3):
            ids = np.arange(5) + 5 * part + 100 * rank
            recording.record("train", ids, ids % 3, np.zeros((5, 3), dtype=np.float32))
            recording.flush()
        recording.finish()
    parts = sorted((experiment / "observations").rglob("*.parquet"))
    assert len(parts) > 2, parts
    frame = read(experiment / "observations").sort("rank", "step", "example")
    assert frame["rank"].to_list() == [0] * 15 + [1] * 15
    assert frame["example"].to_list() == [*range(15), *range(100, 115)]


def test_filters_on_partitions_reach_the_directories(small):
    directory = small.path / "observations"
    expected = sum(row[:2] == ("seed-1", "score") for row in small.observations)
    chosen = (pl.col("run") == "seed-1") & (pl.col("phase") == "score")
    assert pl.scan_parquet(directory).filter(chosen).select(pl.len()).collect().item() == expected
    filters = [("run", "=", "seed-1"), ("phase", "=", "score")]
    assert len(pd.read_parquet(directory, filters=filters)) == expected


def test_a_table_holds_nothing_but_parts(small):
    # Another extension breaks Polars' scan of a directory.
    for table in ["observations", "logits"]:
        files = [path for path in (small.path / table).rglob("*") if path.is_file()]
        assert files and all(path.suffix == ".parquet" for path in files)
    left = {path.name for path in (small.path / "_runs").rglob("*") if path.is_file()}
    assert not {name for name in left if name.endswith((".log", ".draft", ".parquet"))}, left
