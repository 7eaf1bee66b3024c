"""Parquet of every writer and every type, filtered without a changed value, level or schema element.

One cell for each writer and type: what goes in is written by the writer, what comes out is compared
in Parquet's own terms (the footer as it is stored, levels and physical values) and by every reader
that can read what went in. A type that a writer cannot write is a cell too, with its reason.
"""

import datetime as dt
import decimal
import json
import subprocess
import uuid
import warnings

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_footer import Footer
from recording import PARQUET_LEVELS, data_diet

ROWS = 60
KEPT = {row for row in range(ROWS) if row % 3 != 1 and not 20 <= row < 30}
UTC = dt.timezone.utc
DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2031, 3, 4, 5, 6, 7, 891011)


def optional(make):
    """Values of rows, every fifth of which is null."""
    return [None if row % 5 == 3 else make(row) for row in range(ROWS)]


# What goes in, by the name of the type. Writers take these as they can.
VALUES = {
    "null": [None] * ROWS,
    "bool": optional(lambda row: row % 2 == 0),
    "int8": optional(lambda row: row - 30),
    "int16": optional(lambda row: -300 * row),
    "int32": optional(lambda row: 70_000 * (row - 30)),
    "int64": optional(lambda row: (row - 30) << 50),
    "uint8": optional(lambda row: 255 - row),
    "uint16": optional(lambda row: 65_535 - row),
    "uint32": optional(lambda row: 4_294_967_295 - row),
    "uint64": optional(lambda row: 2**64 - 1 - row),
    "float16": optional(lambda row: np.float16(row / 8)),
    "float32": optional(lambda row: float("nan") if row == 7 else row / 3),
    "float64": optional(lambda row: float("inf") if row == 7 else -row / 3),
    "decimal_small": optional(lambda row: decimal.Decimal(row * 7 - 99).scaleb(-2)),
    "decimal_medium": optional(lambda row: decimal.Decimal(row * 10**14 + 7).scaleb(-4)),
    "decimal_large": optional(lambda row: decimal.Decimal(row * 10**30 - 7).scaleb(-10)),
    "string": optional(lambda row: ["", "é", "a\0b", "🙂" * 40][row % 4] + str(row)),
    "binary": optional(lambda row: bytes([row, 255, 0]) * (row % 4)),
    "fixed_binary": optional(lambda row: bytes([row] * 7)),
    "date": optional(lambda row: DAY + dt.timedelta(days=row * 400 - 9000)),
    "time_ms": optional(lambda row: dt.time(row % 24, row, 59, 999_000)),
    "time_us": optional(lambda row: dt.time(row % 24, row, 59, 999_999)),
    "timestamp_ms": optional(lambda row: MOMENT.replace(microsecond=row * 1000)),
    "timestamp_us": optional(lambda row: MOMENT + dt.timedelta(days=row)),
    "timestamp_ns": optional(lambda row: MOMENT + dt.timedelta(seconds=row)),
    "timestamp_utc": optional(lambda row: MOMENT.replace(tzinfo=UTC) - dt.timedelta(days=row)),
    "timestamp_int96": optional(lambda row: MOMENT.replace(year=1000 + 150 * row)),
    "duration": optional(lambda row: dt.timedelta(hours=row, microseconds=7)),
    "interval": optional(lambda row: row),
    "uuid": optional(lambda row: uuid.UUID(int=row << 100 | 77)),
    "json": optional(lambda row: json.dumps({"row": row, "list": [1, None]})),
    "category": optional(lambda row: ["cat", "dog", "a longer name"][row % 3]),
    "list": optional(lambda row: [None if item == 1 else item for item in range(row % 4)]),
    "fixed_list": optional(lambda row: [float(row), -1.0]),
    "struct": optional(lambda row: {"a": row, "b": None if row % 2 else f"{row}"}),
    "map": optional(lambda row: [(f"key {item}", item) for item in range(row % 3)]),
    "deep": optional(
        lambda row: [{"tags": [f"{row}"] * (item % 3), "at": None} for item in range(row % 3)]
    ),
    "list_of_int96": optional(lambda row: [MOMENT.replace(year=1900 + row)] * (row % 3)),
    "struct_of_int96": optional(lambda row: {"at": MOMENT.replace(year=1900 + row), "text": "x"}),
}

ARROW = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "decimal_small": pa.decimal128(7, 2),
    "decimal_medium": pa.decimal128(18, 4),
    "decimal_large": pa.decimal128(38, 10),
    "string": pa.string(),
    "binary": pa.binary(),
    "fixed_binary": pa.binary(7),
    "date": pa.date32(),
    "time_ms": pa.time32("ms"),
    "time_us": pa.time64("us"),
    "timestamp_ms": pa.timestamp("ms"),
    "timestamp_us": pa.timestamp("us"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamp_utc": pa.timestamp("us", tz="UTC"),
    "duration": pa.duration("us"),
    "uuid": pa.uuid(),
    "json": pa.json_(),
    "category": pa.dictionary(pa.int8(), pa.string()),
    "list": pa.list_(pa.int32()),
    "fixed_list": pa.list_(pa.float32(), 2),
    "struct": pa.struct([("a", pa.int32()), ("b", pa.string())]),
    "map": pa.map_(pa.string(), pa.int32()),
    "deep": pa.list_(
        pa.struct([("tags", pa.list_(pa.string())), ("at", pa.timestamp("us"))])
    ),
    # Written as INT96 by an option, which nanoseconds reach to 2262.
    "timestamp_int96": pa.timestamp("us"),
    "list_of_int96": pa.list_(pa.timestamp("us")),
    "struct_of_int96": pa.struct([("at", pa.timestamp("us")), ("text", pa.string())]),
}


def arrow_array(kind):
    values, of = VALUES[kind], ARROW[kind]
    if kind == "uuid":
        storage = pa.array([value and value.bytes for value in values], pa.binary(16))
        return pa.ExtensionArray.from_storage(of, storage)
    if kind == "json":
        return pa.ExtensionArray.from_storage(of, pa.array(values, pa.string()))
    if kind == "category":
        return pa.array(values).dictionary_encode().cast(of)
    if "int96" in kind:
        # Up to the year 2262, in which 64 bits of nanoseconds end; Spark writes the later ones.
        def cut(value):
            if isinstance(value, dt.datetime):
                return value.replace(year=1700 + value.year % 500)
            return value

        values = [
            [cut(item) for item in value]
            if isinstance(value, list)
            else {name: cut(item) for name, item in value.items()}
            if isinstance(value, dict)
            else cut(value)
            for value in values
        ]
    return pa.array(values, of)


def arrow_table(kind):
    return pa.table({"id": pa.array(range(ROWS), pa.int64()), "value": arrow_array(kind)})


def by_pyarrow(kind, path, _):
    options = {"use_deprecated_int96_timestamps": True} if "int96" in kind else {}
    pq.write_table(arrow_table(kind), path, row_group_size=25, **options)


def by_pandas(kind, path, _):
    frame = arrow_table(kind).to_pandas()
    options = {"use_deprecated_int96_timestamps": True} if "int96" in kind else {}
    frame.to_parquet(path, engine="pyarrow", row_group_size=25, **options)


POLARS = {
    "null": pl.Null,
    "bool": pl.Boolean,
    "int8": pl.Int8,
    "int16": pl.Int16,
    "int32": pl.Int32,
    "int64": pl.Int64,
    "uint8": pl.UInt8,
    "uint16": pl.UInt16,
    "uint32": pl.UInt32,
    "uint64": pl.UInt64,
    "float32": pl.Float32,
    "float64": pl.Float64,
    "decimal_small": pl.Decimal(7, 2),
    "decimal_medium": pl.Decimal(18, 4),
    "decimal_large": pl.Decimal(38, 10),
    "string": pl.String,
    "binary": pl.Binary,
    "date": pl.Date,
    "time_us": pl.Time,
    "timestamp_ms": pl.Datetime("ms"),
    "timestamp_us": pl.Datetime("us"),
    "timestamp_ns": pl.Datetime("ns"),
    "timestamp_utc": pl.Datetime("us", "UTC"),
    "duration": pl.Duration("us"),
    "category": pl.Enum(["a longer name", "cat", "dog"]),
    "list": pl.List(pl.Int32),
    "fixed_list": pl.Array(pl.Float32, 2),
    "struct": pl.Struct({"a": pl.Int32, "b": pl.String}),
    "deep": pl.List(pl.Struct({"tags": pl.List(pl.String), "at": pl.Datetime("us")})),
}


def by_polars(kind, path, _):
    column = pl.Series("value", VALUES[kind], POLARS[kind])
    frame = pl.DataFrame({"id": pl.Series(range(ROWS), dtype=pl.Int64), "value": column})
    frame.write_parquet(path, row_group_size=25)


DUCKDB = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "decimal_small": "DECIMAL(7, 2)",
    "decimal_medium": "DECIMAL(18, 4)",
    "decimal_large": "DECIMAL(38, 10)",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "time_us": "TIME",
    "timestamp_ms": "TIMESTAMP_MS",
    "timestamp_us": "TIMESTAMP",
    "timestamp_ns": "TIMESTAMP_NS",
    "timestamp_utc": "TIMESTAMPTZ",
    "interval": "INTERVAL",
    "uuid": "UUID",
    "json": "JSON",
    "category": "ENUM('cat', 'dog', 'a longer name')",
    "list": "INTEGER[]",
    "fixed_list": "FLOAT[2]",
    "struct": "STRUCT(a INTEGER, b VARCHAR)",
    "map": "MAP(VARCHAR, INTEGER)",
    "deep": 'STRUCT(tags VARCHAR[], "at" TIMESTAMP)[]',
}


def by_duckdb(kind, path, _):
    if kind == "interval":
        value = "CASE WHEN id % 5 <> 3 THEN to_months(id::INT) + to_microseconds(id * 1001) END"
    else:
        value = f"value::{DUCKDB[kind]}"
    values = pa.nulls(ROWS) if kind == "interval" else arrow_array(kind)
    if kind in ("uuid", "category", "json"):
        values = pa.array([value and str(value) for value in VALUES[kind]])
    rows = pa.table({"id": pa.array(range(ROWS), pa.int64()), "value": values})
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        connection.execute(
            f"COPY (SELECT id, {value} AS value FROM rows ORDER BY id) "
            f"TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"
        )


SPARK = {
    "null": "void",
    "bool": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    "decimal_small": "decimal(7, 2)",
    "decimal_medium": "decimal(18, 4)",
    "decimal_large": "decimal(38, 10)",
    "string": "string",
    "binary": "binary",
    "date": "date",
    "timestamp_us": "timestamp_ntz",
    "timestamp_int96": "timestamp",
    "list": "array<int>",
    "struct": "struct<a: int, b: string>",
    "map": "map<string, int>",
    "deep": "array<struct<tags: array<string>, at: timestamp_ntz>>",
    "list_of_int96": "array<timestamp>",
    "struct_of_int96": "struct<at: timestamp, text: string>",
}


def by_spark(kind, path, spark):
    values = VALUES[kind]
    if kind == "map":
        values = [value if value is None else dict(value) for value in values]
    if kind == "binary":
        values = [value if value is None else bytearray(value) for value in values]
    rows = list(zip(range(ROWS), values, strict=True))
    frame = spark.createDataFrame(rows, f"id bigint, value {SPARK[kind]}").coalesce(1)
    directory = path.parent / f"{path.name}.spark"
    frame.write.parquet(str(directory))
    (part,) = directory.glob("*.parquet")
    part.rename(path)


FASTPARQUET = {
    "bool": "bool",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "float32": "float32",
    "float64": "float64",
    "timestamp_ns": "datetime64[ns]",
    "timestamp_int96": "datetime64[ns]",
    "duration": "timedelta64[ns]",
}


def by_fastparquet(kind, path, _):
    import fastparquet

    values = VALUES[kind]
    if kind in ("string", "binary", "json"):
        column = pd.Series(values, dtype=object)
    elif kind == "category":
        column = pd.Series(values, dtype="category")
    elif kind in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        # Without nulls: pandas has none in these.
        column = pd.Series([value or 0 for value in values], dtype=FASTPARQUET[kind])
    else:
        if "timestamp" in kind:
            values = [value and value.replace(year=2031) for value in values]
        column = pd.Series(values).astype(FASTPARQUET[kind])
    frame = pd.DataFrame({"id": np.arange(ROWS), "value": column})
    options = {"times": "int96"} if kind == "timestamp_int96" else {}
    encoding = {"binary": "bytes", "json": "json", "string": "utf8"}.get(kind, "infer")
    if kind == "json":
        frame["value"] = [value and json.loads(value) for value in VALUES[kind]]
    fastparquet.write(
        str(path), frame, row_group_offsets=25, object_encoding=encoding, **options
    )


WRITERS = {
    "pyarrow": by_pyarrow,
    "pandas": by_pandas,
    "polars": by_polars,
    "duckdb": by_duckdb,
    "spark": by_spark,
    "fastparquet": by_fastparquet,
}

NO_TYPE = "the writer has no such type"
SKIPPED = {
    **{
        ("pyarrow", kind): reason
        for kind, reason in {"interval": "Arrow's intervals are not written to Parquet"}.items()
    },
    **{
        ("pandas", kind): reason
        for kind, reason in {
            "interval": NO_TYPE,
            "map": "pandas gives it to pyarrow as lists of pairs, which it does not take",
            "json": "pandas gives it to pyarrow as text, the cell `string`",
            "uuid": "pandas gives it to pyarrow as objects, which it does not take",
        }.items()
    },
    **{
        ("polars", kind): reason
        for kind, reason in {
            "float16": "its type for it is unstable",
            "fixed_binary": NO_TYPE,
            "time_ms": NO_TYPE,
            "timestamp_int96": "it does not write INT96",
            "interval": NO_TYPE,
            "uuid": NO_TYPE,
            "json": NO_TYPE,
            "map": NO_TYPE,
            "list_of_int96": "it does not write INT96",
            "struct_of_int96": "it does not write INT96",
        }.items()
    },
    **{
        ("duckdb", kind): reason
        for kind, reason in {
            "null": "it writes an untyped column as INTEGER, the cell `int32`",
            "float16": NO_TYPE,
            "fixed_binary": NO_TYPE,
            "time_ms": NO_TYPE,
            "timestamp_int96": "it does not write INT96",
            "duration": "it has intervals for them, the cell `interval`",
            "list_of_int96": "it does not write INT96",
            "struct_of_int96": "it does not write INT96",
        }.items()
    },
    **{
        ("spark", kind): reason
        for kind, reason in {
            "null": "Parquet of it has no column for `void`",
            "uint8": NO_TYPE,
            "uint16": NO_TYPE,
            "uint32": NO_TYPE,
            "uint64": NO_TYPE,
            "float16": NO_TYPE,
            "fixed_binary": NO_TYPE,
            "time_ms": NO_TYPE,
            "time_us": "its type for it is not written by default",
            "timestamp_ms": NO_TYPE,
            "timestamp_ns": NO_TYPE,
            "timestamp_utc": "its `timestamp` is written as INT96, the cell `timestamp_int96`",
            "duration": "an INT64 without annotation, the cell `int64`",
            "interval": "its intervals are integers in Parquet, the cells `int32` and `int64`",
            "uuid": NO_TYPE,
            "json": NO_TYPE,
            "category": NO_TYPE,
            "fixed_list": NO_TYPE,
        }.items()
    },
    **{
        ("fastparquet", kind): reason
        for kind, reason in {
            "null": "it refuses a column of nothing",
            "float16": NO_TYPE,
            "decimal_small": "it writes decimals as floats, the cell `float64`",
            "decimal_medium": "it writes decimals as floats, the cell `float64`",
            "decimal_large": "it writes decimals as floats, the cell `float64`",
            "fixed_binary": "it writes them only as text of a fixed width",
            "date": "it writes dates as timestamps, the cell `timestamp_ns`",
            "time_ms": "it writes times as nothing that it reads",
            "time_us": "it writes times as nothing that it reads",
            "timestamp_ms": "it has nanoseconds alone",
            "timestamp_us": "it has nanoseconds alone",
            "timestamp_utc": "it has nanoseconds alone",
            "interval": NO_TYPE,
            "uuid": NO_TYPE,
            "list": "it writes nothing nested",
            "fixed_list": "it writes nothing nested",
            "struct": "it writes nothing nested",
            "map": "it writes nothing nested",
            "deep": "it writes nothing nested",
            "list_of_int96": "it writes nothing nested",
            "struct_of_int96": "it writes nothing nested",
        }.items()
    },
}
CELLS = [(writer, kind) for writer in WRITERS for kind in VALUES if (writer, kind) not in SKIPPED]


def test_every_cell_is_there_or_has_its_reason():
    assert len(VALUES) == 39
    assert len(CELLS) + len(SKIPPED) == len(WRITERS) * len(VALUES) == 234
    assert (len(CELLS), len(SKIPPED)) == (172, 62)
    assert all(reason for reason in SKIPPED.values())


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    kept = [float(row in KEPT) for row in range(ROWS)]
    pl.DataFrame({"example": range(ROWS), "score": kept}).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def levels():
    """Asks for the levels and the physical values of a file."""
    process = subprocess.Popen(
        [PARQUET_LEVELS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def ask(path):
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert isinstance(answer, list), answer
        return answer

    yield ask
    process.stdin.close()
    process.stdout.close()
    process.wait()


def rows_of(column):
    """Cuts a column into rows: the levels and the values of each."""
    _, highest, repetitions, definitions, values = column
    count = max(len(repetitions), len(definitions), len(values))
    repetitions = repetitions or [0] * count
    present = [level == highest for level in definitions] or [True] * count
    assert sum(present) == len(values)
    rows, values = [], iter(values)
    for place in range(count):
        if repetitions[place] == 0:
            rows.append([])
        level = definitions[place] if definitions else None
        rows[-1].append((repetitions[place], level, next(values) if present[place] else None))
    return rows


def filtered(source, output, scores, *more):
    data_diet(
        *("filter", "--scores", scores, "--by", "score", "--min", "0.5", "--key", "id"),
        *("--manifest", source, "-o", output, "--no-recipe", *more),
    )


def assert_the_same_parquet(source, output, levels, kept=KEPT):
    """Compares two files in Parquet's own terms."""
    before, after = Footer(source), Footer(output)
    assert after.schema == before.schema
    assert after.version == before.version
    assert after.key_values == before.key_values
    assert after.column_orders == before.column_orders
    assert after.rows == len(kept)
    assert after.created_by.startswith("data-diet version ")
    assert sorted({str(it) for it in after.sorting_columns()}) == sorted(
        {str(it) for it in before.sorting_columns()}
    )
    for place, theirs in before.traits().items():
        ours = after.traits()[place]
        # A dictionary that the writer gave up on may fit the rows that are left.
        assert ours <= theirs | {"dictionary"}, "nothing is added"
        lost = theirs - ours - {"dictionary"}
        # The Parquet crate knows sizes only with statistics, and writes no index of nulls alone.
        lost -= {"size statistics"}
        if not levels(output)[place][-1]:
            lost -= {"column index", "statistics"}
        assert not lost
    for ours, theirs in zip(after.page_indexes(), before.page_indexes(), strict=True):
        assert ours <= theirs, "nothing is added to the page indexes"
    for ours, theirs in zip(levels(output), levels(source), strict=True):
        assert ours[0] == theirs[0]
        expected = [row for number, row in enumerate(rows_of(theirs)) if number in kept]
        assert rows_of(ours) == expected, ours[0]


def by_reader(path):
    """The rows as every reader sees them that can read the file."""
    import fastparquet

    def read_duckdb():
        with duckdb.connect() as connection:
            return connection.execute(f"FROM '{path}' ORDER BY id").fetchall()

    readers = {
        "pyarrow": lambda: pq.read_table(path).to_pylist(),
        "polars": lambda: pl.read_parquet(path).rows(),
        "duckdb": read_duckdb,
        "fastparquet": lambda: fastparquet.ParquetFile(str(path)).to_pandas().values.tolist(),
    }
    seen = {}
    for name, read in readers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seen[name] = [repr(row) for row in read()]
        except BaseException as error:  # Polars panics.
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
    return seen


# A reader that fails leaves its file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("writer", "kind"), CELLS)
def test_what_is_kept_is_what_was_written(writer, kind, scores, levels, tmp_path, request):
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    spark = request.getfixturevalue("spark") if writer == "spark" else None
    WRITERS[writer](kind, source, spark)
    filtered(source, output, scores)
    assert_the_same_parquet(source, output, levels)
    before, after = by_reader(source), by_reader(output)
    assert before, "some reader can read it"
    for reader, rows in before.items():
        expected = [row for number, row in enumerate(rows) if number in KEPT]
        assert after.get(reader) == expected, f"{reader} reads something else"


def test_spark_reads_what_is_kept(spark, scores, tmp_path):
    """Spark takes a second for each file, so it reads all types of a writer in one."""
    unread = ("null", "time_ms", "time_us", "float16", "json", "uuid", "duration")
    kinds = [kind for kind in ARROW if kind not in unread]
    kinds = [kind for kind in kinds if not kind.startswith("uint64") and "ns" not in kind]
    table = pa.table(
        {"id": pa.array(range(ROWS), pa.int64())} | {kind: arrow_array(kind) for kind in kinds}
    )
    files = [tmp_path / "arrow.parquet", tmp_path / "spark.parquet"]
    pq.write_table(table, files[0], use_deprecated_int96_timestamps=True)
    values = {kind: VALUES[kind] for kind in SPARK if kind not in ("null", "binary", "map")}
    rows = list(zip(range(ROWS), *values.values(), strict=True))
    types = ", ".join(f"{kind} {SPARK[kind]}" for kind in values)
    frame = spark.createDataFrame(rows, f"id bigint, {types}").coalesce(1)
    frame.write.parquet(str(tmp_path / "parts"))
    next((tmp_path / "parts").glob("*.parquet")).rename(files[1])
    for source in files:
        output = tmp_path / f"kept-{source.name}"
        filtered(source, output, scores)
        before, after = (
            {row["id"]: repr(row) for row in spark.read.parquet(str(path)).collect()}
            for path in (source, output)
        )
        assert after == {row: text for row, text in before.items() if row in KEPT}


VARIANTS = {
    "no compression": {"compression": "none"},
    "gzip": {"compression": "gzip"},
    "zstd": {"compression": "zstd"},
    "brotli": {"compression": "brotli"},
    "lz4": {"compression": "lz4"},
    "no dictionary": {"use_dictionary": False},
    "data pages of version 2": {"data_page_version": "2.0"},
    "format version 1.0": {"version": "1.0"},
    "page indexes": {"write_page_index": True},
    "no statistics": {"write_statistics": False},
    "statistics of one column": {"write_statistics": ["id"]},
    "no Arrow schema": {"store_schema": False},
    "checksums of pages": {"write_page_checksum": True},
    "lists with an item": {"use_compliant_nested_type": False},
    "byte stream split": {"use_byte_stream_split": ["float"], "use_dictionary": False},
    "delta": {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"},
    },
    "sorting columns": {
        "sorting_columns": [pq.SortingColumn(0, descending=False, nulls_first=False)]
    },
    "decimals as integers": {"store_decimal_as_integer": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("group", [7, 25, ROWS])
def test_options_of_the_writer_are_kept(variant, group, scores, levels, tmp_path):
    table = pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "text": arrow_array("string"),
            "float": arrow_array("float32"),
            "list": arrow_array("list"),
            "decimal": arrow_array("decimal_small"),
        },
        metadata={"mine": "a note"},
    )
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source, row_group_size=group, **VARIANTS[variant])
    filtered(source, output, scores)
    assert_the_same_parquet(source, output, levels)


def test_row_groups_that_are_kept_whole_are_the_same_bytes(scores, levels, tmp_path):
    """With bloom filters and page indexes, which Polars and DuckDB do not write both."""
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    # The first and the third third are kept whole, of the second every other row.
    ids = [*range(0, ROWS, 3), *range(1, 21), *range(2, ROWS, 3)]
    ids = [number for number in ids if not 20 <= number < 30 or number % 3 == 1]
    table = arrow_table("string").take(ids)
    options = {}
    if "bloom_filter_options" in pq.write_table.__doc__:
        options = {"bloom_filter_options": {"value": {"ndv": 100, "fpp": 0.01}}}
    pq.write_table(table, source, row_group_size=10, write_page_index=True, **options)
    kept = {place for place, number in enumerate(ids) if number in KEPT}
    data_diet(
        *("filter", "--scores", scores, "--by", "score", "--min", "0.5", "--key", "id"),
        *("--manifest", source, "-o", output, "--no-recipe", "--duplicates", "allow"),
    )
    assert_the_same_parquet(source, output, levels, kept)
    data = {path: path.read_bytes() for path in (source, output)}

    def pages(path, group, place):
        column = Footer(path).row_groups[group][1][place][3]
        start = column.get(11, column[9])
        return data[path][start : start + column[7]]

    for place in (0, 1):
        assert pages(output, 0, place) == pages(source, 0, place)
    if options:
        assert all("bloom filter" in traits for traits in [Footer(output).traits()[1]])
        with duckdb.connect() as connection:
            probe = "SELECT bloom_filter_excludes FROM parquet_bloom_probe(?, 'value', ?)"
            for number in kept:
                text = table["value"][number].as_py()
                if text is not None and "\0" not in text:
                    rows = connection.execute(probe, [str(output), text]).fetchall()
                    assert not all(excluded for (excluded,) in rows)


def test_bloom_filters_of_duckdb_are_there_again(scores, tmp_path):
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT range AS id, 'name ' || range % 7 AS name FROM range(60)) "
            f"TO '{source}' (FORMAT parquet)"
        )
        assert any("bloom filter" in it for it in Footer(source).traits().values())
        filtered(source, output, scores)
        assert Footer(output).traits()[1] >= {"bloom filter"}
        probe = "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe(?, 'name', ?)"
        for number in range(7):
            (found,) = connection.execute(probe, [str(output), f"name {number}"]).fetchone()
            assert not found
        (found,) = connection.execute(probe, [str(output), "no such name"]).fetchone()
        assert found


def test_scores_are_added_at_the_end_and_nothing_else(scores, levels, tmp_path):
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    by_pyarrow("struct_of_int96", source, None)
    filtered(source, output, scores, "--with-scores")
    before, after = Footer(source), Footer(output)
    root, *elements = before.schema
    assert after.schema[0] == {**root, 5: root[5] + 1}
    assert after.schema[1:-1] == elements
    assert after.schema[-1] == {1: 5, 3: 1, 4: b"score"}
    assert after.column_orders[:-1] == before.column_orders
    for ours, theirs in zip(levels(output), levels(source), strict=False):
        assert rows_of(ours) == [row for at, row in enumerate(rows_of(theirs)) if at in KEPT]
    table = pq.read_table(output)
    assert table["score"].to_pylist() == [1.0] * len(KEPT)
    assert pl.read_parquet(output)["score"].to_list() == [1.0] * len(KEPT)


KEYS = {
    "int64": pa.int64(),
    "int8": pa.int8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "decimal(20, 0)": pa.decimal128(20, 0),
    "decimal(9, 2)": pa.decimal128(9, 2),
    "decimal(38, 5)": pa.decimal128(38, 5),
    "decimal(60, 5)": pa.decimal256(60, 5),
    "text": pa.string(),
    "large text": pa.large_string(),
    "dictionary of text": pa.dictionary(pa.int16(), pa.string()),
    "dictionary of integers": pa.dictionary(pa.int8(), pa.int64()),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_integers_whatever_their_type(kind, scores, tmp_path):
    of = KEYS[kind]
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    if "text" in kind:
        keys = pa.array([str(row) for row in range(ROWS)])
    elif "decimal" in kind:
        keys = pa.array([decimal.Decimal(row) for row in range(ROWS)], of)
    else:
        keys = pa.array(range(ROWS))
    keys = keys.dictionary_encode().cast(of) if "dictionary" in kind else keys.cast(of)
    pq.write_table(pa.table({"id": keys, "row": range(ROWS)}), source, store_decimal_as_integer=True)
    filtered(source, output, scores)
    assert pq.read_table(output)["row"].to_pylist() == sorted(KEPT)
    # What is not whole is refused by name.
    if "float" in kind or kind == "decimal(9, 2)":
        odd = pa.array([1, decimal.Decimal("3.5")], pa.decimal128(9, 2)).cast(of)
        pq.write_table(pa.table({"id": odd}), tmp_path / "odd.parquet")
        arguments = ["filter", "--scores", scores, "--by", "score", "--min", "0", "--key", "id"]
        told = data_diet(*arguments, "--manifest", tmp_path / "odd.parquet", "--dry-run", expect=1)
        assert "row 1 (from 0): expected an example id" in told.stderr and "`3.5`" in told.stderr


@pytest.mark.parametrize("map_format", ["csv", "parquet", "jsonl"])
def test_uuids_meet_their_text(map_format, scores, tmp_path):
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    uuids = [uuid.UUID(int=row << 90 | row) for row in range(ROWS)]
    with duckdb.connect() as connection:
        connection.register("rows", pa.table({"text": [str(it) for it in uuids], "row": range(ROWS)}))
        connection.execute(f"COPY (SELECT text::UUID AS id, row FROM rows) TO '{source}' (FORMAT parquet)")
    keys = tmp_path / f"map.{map_format}"
    frame = pl.DataFrame({"id": [str(it) for it in uuids], "example": range(ROWS)})
    if map_format == "parquet":
        table = pa.table({"id": pa.array([it.bytes for it in uuids], pa.binary(16)).cast(pa.binary(16))})
        storage = table["id"].combine_chunks()
        table = pa.table({"id": pa.ExtensionArray.from_storage(pa.uuid(), storage), "example": range(ROWS)})
        pq.write_table(table, keys)
    elif map_format == "csv":
        frame.write_csv(keys)
    else:
        frame.write_ndjson(keys)
    filtered(source, output, scores, "--key-map", keys)
    assert pq.read_table(output)["row"].to_pylist() == sorted(KEPT)
    told = data_diet(
        *("filter", "--scores", scores, "--by", "score", "--min", "0", "--key", "id"),
        *("--manifest", source, "--dry-run"),
        expect=1,
    )
    assert "got UUIDs; map them to ids with `key_map`" in told.stderr


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_encrypted_files_are_called_so(plaintext_footer, scores, tmp_path):
    import pyarrow.parquet.encryption as pe

    class Kms(pe.KmsClient):
        def wrap_key(self, key, _):
            return key.hex()

        def unwrap_key(self, key, _):
            return bytes.fromhex(key)

    config = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": ["id"]}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(lambda _: Kms())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(ROWS)}), source, encryption_properties=properties)
    told = data_diet(
        *("filter", "--scores", scores, "--by", "score", "--min", "0", "--key", "id"),
        *("--manifest", source, "--dry-run"),
        expect=1,
    )
    assert "it is encrypted; decrypt it first" in told.stderr


def test_columns_of_the_same_name_both_stay(scores, levels, tmp_path):
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    ids, twice = pa.array(range(ROWS)), [pa.array(range(5, ROWS + 5)), arrow_array("string")]
    pq.write_table(pa.Table.from_arrays([ids, *twice], names=["id", "a", "a"]), source)
    filtered(source, output, scores)
    assert_the_same_parquet(source, output, levels)


def test_row_groups_without_rows_and_files_without_row_groups(scores, levels, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(source / "a.parquet", schema) as writer:
        for ids in ([], [0, 1, 2], [], [3, 4]):
            writer.write_table(pa.table({"id": ids, "text": [str(it) for it in ids]}, schema))
    with pq.ParquetWriter(source / "b.parquet", schema):
        pass
    pq.write_table(schema.empty_table(), source / "c.parquet")
    filtered(source, output, scores)
    assert pq.read_table(output / "a.parquet")["id"].to_pylist() == [0, 2, 3]
    for name in ("b", "c"):
        metadata = pq.read_metadata(output / f"{name}.parquet")
        # Some readers refuse a row group of no rows.
        assert (metadata.num_rows, metadata.num_row_groups) == (0, 0)
        assert pq.read_schema(output / f"{name}.parquet").equals(schema)


def test_a_summary_of_other_files_is_no_data(scores, tmp_path):
    import fastparquet

    source = tmp_path / "hive"
    frame = pd.DataFrame({"id": range(ROWS)})
    fastparquet.write(str(source), frame, row_group_offsets=25, file_scheme="hive")
    filter_by = ["filter", "--scores", scores, "--by", "score", "--min", "0.5", "--key", "id"]
    summary = [*filter_by, "--manifest", source / "_metadata", "--format", "parquet", "--dry-run"]
    assert "its columns are in other files, such as part.0.parquet" in data_diet(*summary, expect=1).stderr
    told = data_diet(*filter_by, "--manifest", source, "--dry-run").stderr
    assert f"would have kept {len(KEPT)} of {ROWS} rows" in told
