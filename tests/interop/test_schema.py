"""The column types that README promises, and what a row costs on disk."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from recording import ALL_SIGNALS, data_diet

MOMENT = [("step", pa.int64()), ("epoch", pa.int32()), ("example", pa.int64()), ("label", pa.int32())]
DEFAULT_SIGNALS = ["el2n", "loss", "margin"]


def parts(experiment, table):
    return sorted((experiment / table).rglob("*.parquet"))


def columns(path):
    # `parquet.read_table` of a file inside a partitioned tree would add the partitions' columns.
    schema = parquet.ParquetFile(path).schema_arrow
    assert not any(field.nullable for field in schema)
    return [(field.name, field.type) for field in schema]


def record_a_batch(recording, experiment, classes, **options):
    recording.open(experiment, "seed-0", classes, **options)
    logits = np.eye(classes, dtype=np.float32)
    recording.record("train", np.arange(classes), np.arange(classes), logits)
    recording.finish()


@pytest.mark.parametrize("signals", [None, [], ["el2n"], ALL_SIGNALS])
def test_observations(recording, experiment, signals):
    record_a_batch(recording, experiment, 4, signals=signals)
    expected = DEFAULT_SIGNALS if signals is None else signals
    for path in parts(experiment, "observations"):
        assert columns(path) == [
            *MOMENT,
            ("correct", pa.bool_()),
            *((name, pa.float32()) for name in expected),
        ]


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (None, [("logits", ("list", pa.float32(), 4))]),
        ("f32", [("logits", ("list", pa.float32(), 4))]),
        ("f16", [("logits", pa.binary(8))]),
        ({"top_k": 2}, [("classes", ("list", pa.int32(), 2)), ("logits", ("list", pa.float32(), 2))]),
    ],
)
def test_logits(recording, experiment, logits, expected):
    record_a_batch(recording, experiment, 4, logits=logits)
    (path,) = parts(experiment, "logits")
    stored = [
        (name, ("list", kind.value_type, kind.list_size))
        if pa.types.is_fixed_size_list(kind)
        else (name, kind)
        for name, kind in columns(path)
    ]
    assert stored == [*MOMENT, *expected]


def test_gradient_norms(recording, experiment):
    recording.open(experiment, "seed-0", 3, rank=2)
    norms = np.array([0.5, np.inf, 0.0], dtype=np.float32)
    recording.record("grand", [4, 7, 2**40], [0, 2, 1], norms, step=5, epoch=1)
    assert recording.finish()["rows"] == {"written": 3, "dropped": 0, "non_finite": 1, "lost": 0, "without_tokens": 0}
    (path,) = parts(experiment, "grand")
    assert path.relative_to(experiment).parent.as_posix() == "grand/run=seed-0/rank=2"
    assert columns(path) == [*MOMENT, ("grand", pa.float32())]
    # No phase: gradients are taken with the weights held still.
    table = pd.read_parquet(experiment / "grand")
    assert table.columns.tolist() == [name for name, _ in MOMENT] + ["grand", "run", "rank"]
    assert table["example"].tolist() == [4, 7, 2**40]
    np.testing.assert_array_equal(table["grand"], np.array([0.5, np.nan, 0.0], dtype=np.float32))
    data_diet("verify", experiment)


def test_no_logits_table_without_logits(recording, experiment):
    record_a_batch(recording, experiment, 4, logits="off")
    assert parts(experiment, "observations") and not parts(experiment, "logits")


def test_no_unsigned_integer_is_stored(small):
    # Spark reads unsigned integers badly: none may be stored, annotated or not.
    for path in [*parts(small.path, "observations"), *parts(small.path, "logits")]:
        schema = parquet.ParquetFile(path).schema
        for at in range(len(schema)):
            column = schema.column(at)
            assert column.physical_type in {"INT32", "INT64", "FLOAT", "BOOLEAN"}, column
            assert "isSigned=false" not in str(column.logical_type), column
            assert not column.converted_type.startswith("UINT"), column


# Encodings that readers of some years' standing know for a type. DuckDB before 2.0 refuses
# BYTE_STREAM_SPLIT of integers.
PORTABLE = {
    "INT32": {"PLAIN", "RLE", "RLE_DICTIONARY", "DELTA_BINARY_PACKED"},
    "INT64": {"PLAIN", "RLE", "RLE_DICTIONARY", "DELTA_BINARY_PACKED"},
    "FLOAT": {"PLAIN", "RLE", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"},
    # An old reader misreads RLE booleans; the RLE here is that of the levels.
    "BOOLEAN": {"PLAIN", "RLE"},
    "FIXED_LEN_BYTE_ARRAY": {"PLAIN", "RLE"},
}


@pytest.mark.parametrize("logits", ["f32", "f16", {"top_k": 2}])
def test_encodings_are_portable(recording, experiment, logits):
    record_a_batch(recording, experiment, 4, logits=logits, signals=ALL_SIGNALS)
    for path in [*parts(experiment, "observations"), *parts(experiment, "logits")]:
        group = parquet.ParquetFile(path).metadata.row_group(0)
        for column in map(group.column, range(group.num_columns)):
            assert set(column.encodings) <= PORTABLE[column.physical_type], column


def test_extreme_values_survive(recording, experiment):
    ids = [0, 2**62, 2**63 - 1]
    recording.open(experiment, "seed-0", 2)
    logits = np.array([[3e38, -3e38], [1e-45, 0], [-0.0, 0]], dtype=np.float32)
    recording.record("train", ids, [0, 1, 0], logits, step=2**63 - 2, epoch=2**31 - 1)
    recording.finish()
    (path,) = parts(experiment, "observations")
    table = parquet.ParquetFile(path).read()
    assert table["example"].to_pylist() == ids
    assert table["step"].to_pylist() == [2**63 - 2] * 3
    assert table["epoch"].to_pylist() == [2**31 - 1] * 3
    (path,) = parts(experiment, "logits")
    stored = np.array(parquet.ParquetFile(path).read()["logits"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(stored.view(np.uint32), logits.view(np.uint32))


def cifar_like_logits(random, labels, epoch, epochs):
    """Ten logits per example, most of them confidently right by the end of training."""
    ease = random.gamma(2.0, 1.5, len(labels)) * (1 + 4 * epoch / epochs)
    logits = random.normal(0, 1.5, (len(labels), 10))
    logits[np.arange(len(labels)), labels] += ease
    return logits.astype(np.float32)


def test_bytes_per_observation(recording, experiment, capsys):
    examples, epochs, batch = 50_000, 10, 128
    random = np.random.default_rng(0)
    labels = random.integers(10, size=examples)
    signals = ["el2n", "loss", "margin"]
    recording.open(experiment, "seed-0", 10, examples=examples, signals=signals, logits="off")
    for epoch in range(epochs):
        order = random.permutation(examples)
        logits = cifar_like_logits(random, labels[order], epoch, epochs)
        recording.record("train", order, labels[order], logits, epoch=epoch, batch_rows=batch)
    rows = recording.finish()["rows"]["written"]
    assert rows == examples * epochs
    size = sum(path.stat().st_size for path in parts(experiment, "observations"))
    with capsys.disabled():
        print(f"\n{size / rows:.2f} bytes per observation ({rows:,} rows, el2n, loss and margin)")
    assert size / rows < 16
    data_diet("verify", experiment)
