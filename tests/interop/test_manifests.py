"""Manifests of many kinds filtered by score, and read by pandas, Polars, pyarrow and DuckDB."""

import gzip
import io

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from recording import data_diet

ROWS = 3000
RULE = ("--by", "el2n", "--keep", "highest", "--fraction", "0.5")


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """A table of one's own: ids in no order, one score without a value."""
    random = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    el2n = random.random(ROWS)
    el2n[17] = np.nan
    frame = pl.DataFrame({"example": random.permutation(ROWS), "el2n": el2n, "hard": el2n * 2})
    frame.write_parquet(path)
    return path


@pytest.fixture
def frame():
    ids = np.random.default_rng(4).permutation(ROWS)
    texts = [f'a "{i}",\n\tb' if i % 3 else None for i in ids]
    tags = [["x"] * (i % 3) for i in ids.tolist()]
    return pl.DataFrame({"text": texts, "id": ids, "name": [f"im/{i}.png" for i in ids], "tags": tags})


def kept_ids(scores):
    """The half with the highest scores; ties do not occur."""
    table = pl.read_parquet(scores).filter(pl.col("el2n").is_not_nan()).sort("el2n")
    return set(table["example"][-round(len(table) / 2 + 1e-9) :].to_list())


def filtered(scores, source, output, *more):
    data_diet(
        *("filter", "--scores", scores, "--manifest", source, *RULE, "--unscored", "prune"),
        *("-o", output, *more),
    )


def expected(frame, scores):
    return frame.filter(pl.col("id").is_in(kept_ids(scores)))


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "lz4", "uncompressed", "brotli"])
@pytest.mark.parametrize("rows", [None, 100, 7])
def test_parquet_by_polars_comes_through(scores, frame, tmp_path, compression, rows):
    source, output = tmp_path / "train.parquet", tmp_path / "kept.parquet"
    frame.write_parquet(source, compression=compression, row_group_size=rows)
    filtered(scores, source, output, "--key", "id")
    wanted = expected(frame, scores)
    assert pl.read_parquet(output).equals(wanted)
    assert pq.read_table(output).to_pylist() == wanted.to_arrow().to_pylist()
    counts = duckdb.sql(f"SELECT count(*), sum(id)::BIGINT FROM '{output}'").fetchall()
    assert counts == [(len(wanted), wanted["id"].sum())]
    before, after = pq.ParquetFile(source), pq.ParquetFile(output)
    assert after.schema_arrow.equals(before.schema_arrow)
    column = after.metadata.row_group(0).column(0)
    assert column.compression == before.metadata.row_group(0).column(0).compression


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_by_pyarrow_keeps_its_encodings(scores, frame, tmp_path, dictionary, version):
    source, output = tmp_path / "train.parquet", tmp_path / "kept.parquet"
    pq.write_table(
        frame.to_arrow(),
        source,
        use_dictionary=dictionary,
        column_encoding=None if dictionary else {"id": "DELTA_BINARY_PACKED"},
        data_page_version=version,
        row_group_size=400,
    )
    filtered(scores, source, output, "--key", "id")
    assert pl.read_parquet(output).equals(expected(frame, scores))
    for place in range(2):
        encodings = set(pq.ParquetFile(output).metadata.row_group(0).column(place).encodings)
        assert ("RLE_DICTIONARY" in encodings) == dictionary
    if not dictionary:
        assert "DELTA_BINARY_PACKED" in encodings


def test_directories_are_data_sets(scores, frame, tmp_path):
    source, output = tmp_path / "train", tmp_path / "kept"
    source.mkdir()
    for number in range(5):
        part = frame[number * 600 : (number + 1) * 600]
        part.write_parquet(source / f"train-{number:05}-of-00005.parquet")
    # A shard of which nothing stays.
    frame.filter(~pl.col("id").is_in(kept_ids(scores)))[:0].write_parquet(source / "train-x.parquet")
    filtered(scores, source, output, "--key", "id")
    wanted = expected(frame, scores)
    assert pl.read_parquet(output).equals(wanted)
    assert ds.dataset(output).to_table()["id"].to_pylist() == wanted["id"].to_list()
    assert pd.read_parquet(output)["id"].tolist() == wanted["id"].to_list()
    counts = duckdb.sql(f"SELECT count(*) FROM '{output}/*.parquet'").fetchall()
    assert counts == [(len(wanted),)]
    assert sorted(path.name for path in output.iterdir()) == sorted(
        path.name for path in source.iterdir()
    )


@pytest.mark.parametrize("suffix", ["csv.gz", "csv.zst", "tsv.gz", "jsonl.zst", "jsonl.gz"])
def test_compressed_text_is_read_by_others(scores, frame, tmp_path, suffix):
    source, output = tmp_path / f"train.{suffix}", tmp_path / f"kept.{suffix}"
    kind, extension = suffix.split(".")
    method = {"gz": "gzip", "zst": "zstd"}[extension]
    separator = "\t" if kind == "tsv" else ","
    pandas = frame.drop("tags").to_pandas()
    with pa.output_stream(str(source), compression=method) as file:
        if kind == "jsonl":
            pandas.to_json(file, orient="records", lines=True)
        else:
            pandas.to_csv(file, index=False, sep=separator)

    def read(path):
        with pa.input_stream(str(path), compression=method) as file:
            text = io.BytesIO(file.read())
        return pd.read_json(text, lines=True) if kind == "jsonl" else pd.read_csv(text, sep=separator)

    quotes = ["--quotes"] if kind == "tsv" else []
    filtered(scores, source, output, "--key", "id", *quotes)
    before = read(source)
    wanted = before[before["id"].isin(kept_ids(scores))].reset_index(drop=True)
    pd.testing.assert_frame_equal(read(output), wanted)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_names_through_a_map_are_ids(scores, frame, tmp_path, suffix):
    source, key_map = tmp_path / f"train.{suffix}", tmp_path / "map.parquet"
    frame = frame.drop("tags")
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](source)
    frame.select(pl.col("id").alias("example"), "name").sample(fraction=1.0, seed=1).write_parquet(key_map)
    by_id, by_name = tmp_path / f"by-id.{suffix}", tmp_path / f"by-name.{suffix}"
    filtered(scores, source, by_id, "--key", "id")
    filtered(scores, source, by_name, "--key", "name", "--key-map", key_map)
    assert by_id.read_bytes() == by_name.read_bytes()
    read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[suffix]
    assert set(read(by_name)["id"].to_list()) == kept_ids(scores)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet"])
def test_added_scores_are_those_of_the_table(scores, frame, tmp_path, suffix):
    source, output = tmp_path / f"train.{suffix}", tmp_path / f"kept.{suffix}"
    frame = frame.drop("tags")
    text = io.BytesIO()
    {"csv": frame.write_csv, "csv.gz": frame.write_csv, "jsonl": frame.write_ndjson,
     "parquet": frame.write_parquet}[suffix](text)
    source.write_bytes(gzip.compress(text.getvalue()) if suffix.endswith("gz") else text.getvalue())
    data_diet(
        *("filter", "--scores", scores, "--manifest", source, *RULE, "--unscored", "keep"),
        *("--key", "id", "--with-scores", "el2n,hard", "-o", output),
    )
    read = pl.read_ndjson if suffix == "jsonl" else pl.read_parquet if suffix == "parquet" else pl.read_csv
    kept = read(output)
    assert kept.columns == [*frame.columns, "el2n", "hard"]
    table = pl.read_parquet(scores).with_columns(pl.col("el2n", "hard").fill_nan(None))
    joined = kept.select("id").join(table, left_on="id", right_on="example", maintain_order="left")
    assert kept["el2n"].to_list() == joined["el2n"].to_list()
    assert kept["hard"].to_list() == joined["hard"].to_list()
    assert kept["el2n"].null_count() == 1


def test_image_folder_metadata_is_read_by_others(scores, frame, tmp_path):
    source, output = tmp_path / "pets", tmp_path / "kept"
    (source / "train").mkdir(parents=True)
    metadata = frame.select(pl.col("name").alias("file_name"), "id", "text")
    metadata.write_csv(source / "train" / "metadata.csv")
    filtered(scores, source, output, "--format", "imagefolder", "--key", "id", "--images", "leave")
    kept = pl.read_csv(output / "train" / "metadata.csv")
    assert kept.equals(metadata.filter(pl.col("id").is_in(kept_ids(scores))))
