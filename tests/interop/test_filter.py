"""Manifests filtered by score: pandas, Polars and the json module write and read them, NumPy chooses."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from recording import data_diet

CHOICES = {
    "highest": ["--keep", "highest", "--fraction", "0.3"],
    "lowest": ["--keep", "lowest", "--count", "20"],
    "threshold": ["--min", "0.5", "--max", "1.0"],
}


def chosen(scores, choice):
    """Ids that a choice keeps: ascending by score, ties by id, as a stable argsort orders them."""
    ids, el2n = scores["example"].to_numpy(), scores["el2n_mean"].to_numpy()
    order = ids[np.argsort(el2n, kind="stable")]
    match choice:
        case "highest":
            return set(order[len(order) - round(0.3 * len(order)) :].tolist())
        case "lowest":
            return set(order[:20].tolist())
        case "threshold":
            return set(ids[(el2n >= 0.5) & (el2n <= 1.0)].tolist())


@pytest.fixture(scope="module")
def scores(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    data_diet("scores", small.path, "-o", path)
    return path


@pytest.fixture
def manifest(scores):
    """One row per example, in an order of its own, with text that needs quotes."""
    ids = np.random.default_rng(5).permutation(pl.read_parquet(scores)["example"].to_numpy())
    texts = [f'a "{i}",\n\tb' if i % 3 else "" for i in range(len(ids))]
    return pd.DataFrame({"text": texts, "id": ids, "weight": np.linspace(0, 1, len(ids))})


def write_csv(frame, path):
    frame.to_csv(path, index=False)


def write_tsv(frame, path):
    frame.to_csv(path, index=False, sep="\t")


def write_parquet(frame, path):
    frame.to_parquet(path, compression="gzip", index=False)


def write_parquet_by_polars(frame, path):
    pl.from_pandas(frame).write_parquet(path)


def write_jsonl(frame, path):
    frame.to_json(path, orient="records", lines=True)


def read(path):
    match path.suffix:
        case ".csv":
            return pd.read_csv(path, keep_default_na=False)
        case ".tsv":
            return pd.read_csv(path, sep="\t", keep_default_na=False)
        case ".parquet":
            return pd.read_parquet(path)
        case ".jsonl":
            return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(
    "write, suffix",
    [
        (write_csv, "csv"),
        (write_tsv, "tsv"),
        (write_parquet, "parquet"),
        (write_parquet_by_polars, "parquet"),
        (write_jsonl, "jsonl"),
    ],
)
def test_kept_rows(scores, manifest, tmp_path, write, suffix, choice):
    source, output = tmp_path / f"train.{suffix}", tmp_path / f"kept.{suffix}"
    write(manifest, source)
    data_diet(
        *("filter", "--scores", scores, "--manifest", source, "--key", "id", "--by", "el2n"),
        *(*CHOICES[choice], "-o", output, *(["--quotes"] if suffix == "tsv" else [])),
    )
    ids = chosen(pl.read_parquet(scores), choice)
    assert 0 < len(ids) < len(manifest)
    kept = read(output).reset_index(drop=True)
    before = read(source)
    expected = before[before["id"].isin(ids)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, expected)
