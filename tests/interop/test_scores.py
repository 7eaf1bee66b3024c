"""EL2N over runs as Polars, pandas and DuckDB aggregate it, against `data-diet scores`."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from recording import data_diet

KEYS = ["phase", "epoch", "example"]


def by_polars(observations):
    """Columns phase, epoch, example, mean, std, count; sorted by the first three."""
    return (
        pl.scan_parquet(observations)
        .group_by("run", *KEYS)
        .agg(pl.col("el2n").cast(pl.Float64).mean())
        .group_by(KEYS)
        .agg(mean=pl.col("el2n").mean(), std=pl.col("el2n").std(ddof=1), count=pl.len())
        .sort(KEYS)
        .collect(engine="streaming")
    )


def by_pandas(observations):
    frame = pd.read_parquet(observations).astype({"el2n": float, "run": str, "phase": str})
    of_runs = frame.groupby(["run", *KEYS])["el2n"].mean()
    return pl.from_pandas(of_runs.groupby(KEYS).agg(["mean", "std", "count"]).reset_index())


def by_duckdb(observations):
    return duckdb.sql(
        f"""
        WITH of_runs AS (
            SELECT run, phase, epoch, example, avg(el2n::DOUBLE) AS el2n
            FROM read_parquet('{observations}/**/*.parquet') GROUP BY ALL
        )
        SELECT phase, epoch, example, avg(el2n) AS mean, stddev_samp(el2n) AS std, count(*) AS count
        FROM of_runs GROUP BY ALL ORDER BY phase, epoch, example
        """
    ).pl()


@pytest.mark.parametrize("aggregate", [by_polars, by_pandas, by_duckdb])
def test_el2n_over_runs(small, tmp_path, aggregate):
    output = tmp_path / "scores.parquet"
    data_diet("scores", small.path, "-o", output)
    scores = pl.read_parquet(output)
    expected = aggregate(small.path / "observations")
    assert expected.height == 2 * small.EPOCHS * small.EXAMPLES
    for (phase, epoch), rows in expected.group_by("phase", "epoch"):
        name = f"el2n_{phase}_epoch_{epoch}"
        assert scores["example"].equals(rows["example"])
        for statistic in ["mean", "std", "count"]:
            np.testing.assert_allclose(
                scores[f"{name}_{statistic}"], rows[statistic], rtol=1e-13, err_msg=name
            )
    # Without an epoch, `el2n` is the last one of the score phase.
    assert scores["el2n_mean"].equals(scores["el2n_score_epoch_3_mean"])
    assert scores["runs"].to_list() == [2] * small.EXAMPLES


@pytest.fixture(scope="module")
def scores_of_ten(ten_runs):
    output = ten_runs.with_name("scores.parquet")
    told = data_diet("scores", ten_runs, "-o", output).stderr
    assert "2 observations with non-finite logits left out" in told
    return pl.read_parquet(output)


def test_runs_that_miss_examples_epochs_or_numbers(ten_runs, scores_of_ten):
    path, scores = ten_runs, scores_of_ten
    finite = (
        pl.scan_parquet(path / "observations")
        .filter(pl.col("el2n").is_not_nan())
        .group_by(KEYS)
        .agg(
            mean=pl.col("el2n").cast(pl.Float64).mean(),
            std=pl.col("el2n").cast(pl.Float64).std(),
            count=pl.len(),
        )
        .collect()
    )
    for phase, epoch in [(phase, epoch) for phase in ("train", "score") for epoch in range(3)]:
        name = f"el2n_{phase}_epoch_{epoch}"
        here = (pl.col("phase") == phase) & (pl.col("epoch") == epoch)
        rows = scores.select("example").join(finite.filter(here), on="example", how="left")
        rows = rows.sort("example")
        for statistic in ["mean", "std", "count"]:
            np.testing.assert_allclose(
                scores[f"{name}_{statistic}"].to_numpy(),
                rows[statistic].to_numpy(),
                rtol=1e-12,
                err_msg=f"{name}_{statistic}",
            )
    counts = dict(zip(scores["example"], scores["el2n_train_epoch_1_count"]))
    assert (counts[0], counts[17], counts[49]) == (10, 9, 8)
    # The last epoch that every run has recorded.
    assert scores["el2n_mean"].equals(scores["el2n_score_epoch_1_mean"])


def test_only_the_epochs_asked_for(small, tmp_path):
    output = tmp_path / "scores.parquet"
    data_diet("scores", small.path, "-o", output, "--epochs", "1")
    names = [name for name in pl.read_parquet(output).columns if name.endswith("_mean")]
    assert [name for name in names if name.startswith("el2n")] == [
        "el2n_mean",
        "el2n_train_epoch_1_mean",
        "el2n_score_epoch_1_mean",
    ]
    data_diet("scores", small.path, "-o", output, "--epochs", "9", expect=1)


def test_columns_of_the_scores(scores_of_ten):
    scores = scores_of_ten
    types = dict(scores.schema)
    assert [types.pop(name) for name in ("example", "label", "runs")] == [
        pl.Int64,
        pl.Int32,
        pl.Int32,
    ]
    for name, data_type in types.items():
        assert data_type == (pl.Int32 if name.endswith("_count") else pl.Float64), name
    assert scores["example"].is_sorted() and scores["label"].equals(
        (scores["example"] % 4).cast(pl.Int32).alias("label")
    )
