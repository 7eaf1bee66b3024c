"""Weights in the table `snapshots`, put together again from its rows alone."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as parquet
import pytest
from recording import data_diet

RAW = {"f64": "<f8", "i64": "<i8"}
CHUNK = 256 * 1024


def weights():
    random = np.random.default_rng(0)
    return {
        "conv.weight": random.normal(size=(3, 2, 5)).astype(np.float32),
        # NaN with a payload, infinity, minus zero, the least subnormal.
        "odd": np.array([0x7FC01234, 0x7F800000, 0x80000000, 1], dtype=np.uint32).view(np.float32),
        "long": random.normal(size=2 * CHUNK + 3).astype(np.float32),
        "half": np.arange(2**16, dtype=np.uint16).view(np.float16),
        "brain": np.arange(2**16, dtype=np.uint16),
        "double": random.normal(size=(2, 2)),
        "count": np.array(-7, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }


@pytest.fixture
def recorded(recording, experiment):
    recording.open_with_weights(experiment, "seed-0", weights())
    recording.record("train", [0], [0], np.zeros((1, 2), dtype=np.float32))
    recording.finish()
    data_diet("verify", experiment)
    return experiment


def rows_of_arrow(table):
    """Rows whose lists stay arrays: a Python float would lose the payload of a signalling NaN."""
    rows = table.drop_columns(["values"]).to_pylist()
    for row, values in zip(rows, table.column("values"), strict=True):
        row["values"] = values.values.to_numpy() if values.is_valid else None
    return rows


def read_polars(table):
    return rows_of_arrow(pl.read_parquet(table).to_arrow())


def read_pandas(table):
    return pd.read_parquet(table).to_dict("records")


def read_duckdb(table):
    found = duckdb.sql(f"FROM read_parquet('{table}/**/*.parquet', hive_partitioning = true)")
    return rows_of_arrow(found.arrow().read_all())


def joined(chunks):
    """The tensor that some rows hold."""
    first = chunks[0]
    assert [row["chunk"] for row in chunks] == list(range(len(chunks)))
    if first["dtype"] in RAW:
        flat = np.frombuffer(b"".join(row["data"] for row in chunks), dtype=RAW[first["dtype"]])
    else:
        flat = np.concatenate([np.asarray(row["values"], dtype=np.float32) for row in chunks])
    return flat.reshape([int(length) for length in first["shape"]])


@pytest.mark.parametrize("read", [read_polars, read_pandas, read_duckdb])
def test_tensors_come_back_to_the_bit(recorded, read):
    rows = read(recorded / "snapshots")
    assert {(row["run"], int(row["step"]), row["epoch"]) for row in rows} == {
        ("seed-0", 0, 0),
        ("seed-0", 1, 0),
    }
    for step in (0, 1):
        of_step = [row for row in rows if int(row["step"]) == step]
        tensors = {}
        for row in of_step:
            tensors.setdefault(row["name"], []).append(row)
        expected = weights()
        assert sorted(tensors) == sorted(expected)
        for name, chunks in tensors.items():
            assert [row["offset"] for row in chunks] == [CHUNK * at for at in range(len(chunks))]
            array, original = joined(chunks), expected[name]
            assert array.shape == original.shape, name
            match chunks[0]["dtype"]:
                case "f16":
                    with np.errstate(invalid="ignore"):
                        array = array.astype(np.float16)
                    numbers = ~np.isnan(original)
                    np.testing.assert_array_equal(array[numbers], original[numbers])
                    np.testing.assert_array_equal(np.isnan(array), ~numbers)
                case "bf16":
                    bits = (array.view(np.uint32) >> 16).astype(np.uint16)
                    np.testing.assert_array_equal(bits, original)
                case _:
                    assert array.tobytes() == original.tobytes(), name


def test_rows_are_ordered_and_portable(recorded):
    paths = sorted((recorded / "snapshots").rglob("*.parquet"))
    assert [path.parent.name for path in paths] == ["step=000000000000", "step=000000000001"]
    for path in paths:
        rows = parquet.ParquetFile(path).read(columns=["name", "chunk"]).to_pylist()
        keys = [(row["name"], row["chunk"]) for row in rows]
        assert keys == sorted(keys)
        group = parquet.ParquetFile(path).metadata.row_group(0)
        for column in map(group.column, range(group.num_columns)):
            allowed = {"PLAIN", "RLE", "RLE_DICTIONARY"}
            if column.physical_type == "FLOAT":
                allowed.add("BYTE_STREAM_SPLIT")
            assert set(column.encodings) <= allowed, column
