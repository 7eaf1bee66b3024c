"""The tables of training's geometry in Polars, pandas, DuckDB, pyarrow and Spark."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from recording import Refused, data_diet, record_history

VELOCITY_COLUMNS = {
    "set": pa.string(),
    "first_step": pa.int64(),
    "second_step": pa.int64(),
    "first_epoch": pa.int32(),
    "second_epoch": pa.int32(),
    "distance": pa.float64(),
    "velocity": pa.float64(),
    "dt": pa.float64(),
    "dt_unit": pa.string(),
    "examples": pa.int32(),
    "classes": pa.int32(),
}
BARRIER_COLUMNS = {
    "first": pa.string(),
    "second": pa.string(),
    "spawn_step": pa.int64(),
    "step": pa.int64(),
    "epoch": pa.int32(),
    "set": pa.string(),
    "examples": pa.int32(),
    "running_statistics": pa.string(),
    "alpha": pa.float64(),
    "error": pa.float64(),
    "loss": pa.float64(),
    "error_by_chord": pa.float64(),
    "error_by_mean": pa.float64(),
    "loss_by_chord": pa.float64(),
    "loss_by_mean": pa.float64(),
}
ALPHAS = np.arange(11) / 10


def numbers(random, count, most=1):
    """Numbers that come through JSON exactly, whoever reads it."""
    return random.integers(0, 1024 * most, size=count) / 1024


def velocity(window, step, random):
    return {
        "set": f"window_{window:05}",
        "steps": [step, step + 100],
        "epochs": [step // 200, (step + 100) // 200],
        "distance": numbers(random, 1)[0],
        "dt": 0.5,
        "in_epochs": True,
        "examples": 100,
        "classes": 10,
    }


def barrier(runs, spawn_step, step, part, random, loss=True):
    errors, losses = numbers(random, 11), numbers(random, 11, most=5)
    return {
        "runs": list(runs),
        "spawn_step": spawn_step,
        "step": step,
        "epoch": step // 200,
        "set": part,
        "examples": 1000,
        "reestimated": False,
        "curve": [
            [alpha, error, value if loss else None]
            for alpha, error, value in zip(ALPHAS, errors, losses, strict=True)
        ],
    }


@pytest.fixture
def rows(recording, experiment):
    """Two runs of 3 windows at 4 steps, in two parts each, and curves with and without a spawn."""
    random = np.random.default_rng(0)
    written = {"velocities": [], "barriers": []}
    for run in ["seed-0", "seed-1"]:
        for steps in [(0, 100), (200, 300)]:
            new = [velocity(window, step, random) for step in steps for window in range(3)]
            recording.geometry(experiment, run, velocities=new)
            written["velocities"] += [{**row, "run": run} for row in new]
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    sets = ["lowest", "highest", "random"]
    curves = [barrier(pair, 100, 300, part, random) for pair in pairs for part in sets]
    curves += [barrier(("a", "b"), None, 300, "lowest", random, loss=False)]
    recording.geometry(experiment, "seed-0", barriers=curves[:4])
    recording.geometry(experiment, "seed-0", barriers=curves[4:])
    written["barriers"] = curves
    return written


def expected_velocities(rows):
    return sorted(
        (row["run"], row["set"], *row["steps"], *row["epochs"], row["distance"], row["distance"] / 0.5)
        for row in rows["velocities"]
    )


COLUMNS = [
    "run",
    "set",
    "first_step",
    "second_step",
    "first_epoch",
    "second_epoch",
    "distance",
    "velocity",
]


def test_column_types(rows, experiment):
    for table, expected, parts in [
        ("kernel_velocity", VELOCITY_COLUMNS, 4),
        ("error_barrier", BARRIER_COLUMNS, 2),
    ]:
        files = sorted((experiment / table).rglob("*"))
        files = [path for path in files if path.is_file()]
        assert len(files) == parts
        for path in files:
            schema = parquet.ParquetFile(path).schema_arrow
            assert {field.name: field.type for field in schema} == expected
            assert [field.name for field in schema if field.nullable] == (
                ["spawn_step"] if table == "error_barrier" else []
            )


def test_velocities_in_polars_pandas_and_duckdb(rows, experiment):
    table = experiment / "kernel_velocity"
    expected = expected_velocities(rows)
    read = pl.scan_parquet(table).collect()
    assert sorted(read.select(COLUMNS).rows()) == expected
    assert set(read["dt_unit"]) == {"epochs"} and set(read["dt"]) == {0.5}
    frame = pd.read_parquet(table)
    frame["run"] = frame["run"].astype(str)
    assert sorted(frame[COLUMNS].itertuples(index=False, name=None)) == expected
    query = f"SELECT {', '.join(COLUMNS)} FROM read_parquet('{table}/**/*.parquet', hive_partitioning = true)"
    assert sorted(duckdb.sql(query).fetchall()) == expected


def by_definition(values):
    """The barriers above the chord and above the mean of the ends, on the grid."""
    chord = ALPHAS * values[-1] + (1 - ALPHAS) * values[0]
    mean = (values[0] + values[-1]) / 2
    return (values - chord).max(), (values - mean).max()


SPARK_TYPES = {
    pa.string(): "string",
    pa.int64(): "bigint",
    pa.int32(): "int",
    pa.float64(): "double",
}


def test_velocities_in_spark(spark, rows, experiment):
    frame = spark.read.parquet(str(experiment / "kernel_velocity"))
    expected = {name: SPARK_TYPES[kind] for name, kind in VELOCITY_COLUMNS.items()}
    assert dict(frame.dtypes) == {**expected, "run": "string"}
    assert sorted(map(tuple, frame.select(COLUMNS).collect())) == expected_velocities(rows)
    fast = frame.where("velocity > 1").groupBy("run").count().collect()
    counts = {run: 0 for run in ["seed-0", "seed-1"]}
    for row in expected_velocities(rows):
        counts[row[0]] += row[-1] > 1
    assert {row.run: row["count"] for row in fast} == {k: v for k, v in counts.items() if v}


def by_duckdb(table):
    return duckdb.sql(f"FROM read_parquet('{table}/*.parquet')").df()


def by_pyarrow(table):
    return parquet.read_table(table).to_pandas()


@pytest.mark.parametrize("reader", [pl.read_parquet, pd.read_parquet, by_duckdb, by_pyarrow])
def test_barriers_follow_from_their_curves(rows, experiment, reader):
    frame = reader(experiment / "error_barrier")
    assert_barriers(frame.to_pandas() if isinstance(frame, pl.DataFrame) else frame, rows)


def test_barriers_in_spark(spark, rows, experiment):
    frame = spark.read.parquet(str(experiment / "error_barrier"))
    expected = {name: SPARK_TYPES[kind] for name, kind in BARRIER_COLUMNS.items()}
    assert dict(frame.dtypes) == expected
    collected = pd.DataFrame([row.asDict() for row in frame.collect()])
    assert_barriers(collected, rows)


def assert_barriers(frame, rows):
    assert len(frame) == 11 * len(rows["barriers"])
    for row in rows["barriers"]:
        of_curve = frame[
            (frame["first"] == row["runs"][0])
            & (frame["second"] == row["runs"][1])
            & (frame["set"] == row["set"])
            & (frame["spawn_step"].isna() == (row["spawn_step"] is None))
        ]
        points = np.array(row["curve"], dtype=float)
        np.testing.assert_array_equal(of_curve[["alpha", "error", "loss"]].to_numpy(), points)
        for values, name in [(points[:, 1], "error"), (points[:, 2], "loss")]:
            for value, kind in zip(by_definition(values), ["chord", "mean"], strict=True):
                heights = of_curve[f"{name}_by_{kind}"].to_numpy()
                np.testing.assert_allclose(heights, value, rtol=1e-12, atol=1e-15)


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def group_bytes(path, group):
    columns = [group.column(at) for at in range(group.num_columns)]
    starts = [
        min(offset for offset in (it.dictionary_page_offset, it.data_page_offset) if offset)
        for it in columns
    ]
    ends = [start + it.total_compressed_size for start, it in zip(starts, columns, strict=True)]
    return path.read_bytes()[min(starts) : max(ends)]


def test_checksums_are_those_of_the_bytes(rows, experiment):
    assert crc32c(b"123456789") == 0xE3069283
    for path in [*experiment.rglob("part-*.parquet")]:
        metadata = parquet.ParquetFile(path).metadata
        told = metadata.metadata[b"data_diet.row_group_crc32c"].decode().split(",")
        groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
        assert told == [f"{crc32c(group_bytes(path, group)):08x}" for group in groups]
        assert metadata.metadata[b"data_diet.table"].decode() in path.parts


def test_verify_reads_both_tables(rows, recording, experiment):
    record_history(recording, experiment, "seed-0", [[(0, True)]])
    told = data_diet("verify", experiment).stderr
    points = 11 * len(rows["barriers"])
    assert f"7 parts, {1 + len(rows['velocities']) + points} rows" in told, told
    for part in [*(experiment / "kernel_velocity").rglob("*.parquet"), *(experiment / "error_barrier").iterdir()]:
        sound = part.read_bytes()
        part.write_bytes(sound[:40] + bytes([sound[40] ^ 1]) + sound[41:])
        assert f"{part}: the checksum of row group 0 is wrong" in data_diet("verify", experiment, expect=1).stdout
        part.write_bytes(sound)
    data_diet("verify", experiment)


def test_a_row_comes_once(rows, recording, experiment):
    again = {key: value for key, value in rows["velocities"][0].items() if key != "run"}
    with pytest.raises(Refused, match="the table already has `window_00000` between steps 0 and 100"):
        recording.geometry(experiment, "seed-0", velocities=[again])
    with pytest.raises(Refused, match="`lowest` of `a` and `b` at step 300"):
        recording.geometry(experiment, "seed-0", barriers=rows["barriers"][:1])
    assert pl.read_parquet(experiment / "kernel_velocity").height == len(rows["velocities"])
