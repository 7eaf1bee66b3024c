"""Spark opens the tables by their directory, also while training still writes."""

import struct

import numpy as np
import polars as pl
import pytest
from recording import ALL_SIGNALS, data_diet

# A query of Spark's takes its time, and training publishes many parts in it.
GROWTHS = 6


def test_observations_with_their_partitions(spark, small):
    frame = spark.read.parquet(str(small.path / "observations"))
    assert dict(frame.dtypes) == {
        **{"run": "string", "phase": "string", "rank": "int"},
        **{"step": "bigint", "epoch": "int", "example": "bigint", "label": "int"},
        **{"correct": "boolean"},
        **dict.fromkeys(ALL_SIGNALS, "float"),
    }
    columns = ["run", "phase", "rank", "step", "example", "epoch", "label", "correct", *ALL_SIGNALS]
    expected = pl.read_parquet(small.path / "observations").select(columns)
    # A float32 becomes the Python float of the same value in both: equality is equality of bits.
    assert sorted(map(tuple, frame.select(columns).collect())) == sorted(expected.iter_rows())


def test_scores(spark, small, tmp_path):
    output = tmp_path / "scores.parquet"
    data_diet("scores", small.path, "-o", output)
    frame, expected = spark.read.parquet(str(output)), pl.read_parquet(output)
    types = {pl.Int64: "bigint", pl.Int32: "int", pl.Float64: "double"}
    assert dict(frame.dtypes) == {name: types[kind] for name, kind in expected.schema.items()}
    # NaN equals nothing, not even itself.
    rows = [tuple(map(repr, row)) for row in sorted(frame.collect())]
    assert rows == [tuple(map(repr, row)) for row in expected.iter_rows()]


def test_logits_as_list(spark, small):
    frame = spark.read.parquet(str(small.path / "logits"))
    assert dict(frame.dtypes)["logits"] == "array<float>"
    columns = ["run", "phase", "step", "example", "logits"]
    expected = pl.read_parquet(small.path / "logits").select(columns)
    expected = expected.with_columns(pl.col("logits").arr.to_list())
    assert sorted(map(tuple, frame.select(columns).collect())) == sorted(expected.iter_rows())


def test_logits_as_binary_and_top_k(spark, recording, experiment):
    logits = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    for run, logits_format in [("half", "f16"), ("largest", {"top_k": 2})]:
        path = experiment / run
        recording.open(path, run, 6, logits=logits_format)
        recording.record("train", np.arange(20), np.arange(20) % 6, logits)
        recording.finish()
    rows = spark.read.parquet(str(experiment / "half" / "logits")).orderBy("example").collect()
    stored = [struct.unpack("<6e", row.logits) for row in rows]
    np.testing.assert_array_equal(stored, logits.astype(np.float16))

    rows = spark.read.parquet(str(experiment / "largest" / "logits")).orderBy("example").collect()
    classes = np.argsort(-logits, axis=1)[:, :2]
    np.testing.assert_array_equal([row.classes for row in rows], classes)
    np.testing.assert_array_equal(
        np.float32([row.logits for row in rows]), np.take_along_axis(logits, classes, axis=1)
    )


def test_aggregation_in_sql(spark, small):
    spark.read.parquet(str(small.path / "observations")).createOrReplaceTempView("observations")
    rows = spark.sql(
        """
        SELECT example, avg(double(el2n)) AS mean, stddev_samp(double(el2n)) AS std
        FROM observations WHERE phase = 'score' AND epoch = 3
        GROUP BY example ORDER BY example
        """
    ).collect()
    last = (pl.col("phase") == "score") & (pl.col("epoch") == 3)
    el2n = pl.col("el2n").cast(pl.Float64)
    expected = (
        pl.scan_parquet(small.path / "observations")
        .filter(last)
        .group_by("example")
        .agg(mean=el2n.mean(), std=el2n.std())
        .sort("example")
        .collect()
    )
    assert [row.example for row in rows] == expected["example"].to_list()
    np.testing.assert_allclose([row.mean for row in rows], expected["mean"], rtol=1e-13)
    np.testing.assert_allclose([row.std for row in rows], expected["std"], rtol=1e-12)


def test_reading_while_training_writes(spark, recording, experiment):
    import test_live_readers as live

    live.start(recording, experiment, publish_interval_ms=200)
    counts = []
    while len(set(counts)) < GROWTHS:
        frame = spark.read.parquet(str(experiment / "observations"))
        rows = pl.DataFrame(frame.select("step", "example").collect(), orient="row")
        live.assert_whole(rows.rename({"column_0": "step", "column_1": "example"}))
        assert not counts or rows.height >= counts[-1]
        counts.append(rows.height)
        assert len(counts) < 100 * GROWTHS, "training does not go on"
    recorded = live.finish(recording)
    assert spark.read.parquet(str(experiment / "observations")).count() == recorded
