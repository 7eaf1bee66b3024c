"""Scores over runs as Polars, pandas and DuckDB aggregate them, against `data-diet scores`."""

import definitions
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as parquet
import pytest
from recording import Recording, data_diet, record_history

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


def by_name_and_value(frame):
    return {name: frame[name].to_numpy() for name in frame.columns}


@pytest.mark.parametrize(
    "read",
    [
        pd.read_parquet,
        lambda path: duckdb.sql(f"FROM '{path}'").df(),
        lambda path: parquet.read_table(path).to_pandas(),
    ],
    ids=["pandas", "duckdb", "pyarrow"],
)
def test_every_reader_sees_the_same_table(ten_runs, tmp_path, read):
    output = tmp_path / "scores.parquet"
    data_diet("scores", ten_runs, "-o", output)
    expected = by_name_and_value(pl.read_parquet(output))
    got = by_name_and_value(read(output))
    assert list(got) == list(expected)
    for name, values in expected.items():
        # NaN is where it was.
        np.testing.assert_array_equal(got[name], values, err_msg=name)
        assert got[name].dtype == values.dtype, name


def test_a_table_that_another_tool_has_written_again_is_read_without_checks(small, tmp_path):
    output, again = tmp_path / "scores.parquet", tmp_path / "again.parquet"
    data_diet("scores", small.path, "-o", output)
    table = parquet.read_table(output)
    table = table.append_column("mine", table["el2n_mean"])
    # Whoever keeps what the footer said says it of other bytes.
    table = table.replace_schema_metadata(parquet.read_metadata(output).metadata)
    parquet.write_table(table, again)
    assert b"data_diet.column_chunk_crc32c" in parquet.read_metadata(again).metadata
    compared = data_diet("compare", "--scores", again, "el2n", "mine", "--json").stdout
    assert '"spearman"' in compared
    told = data_diet("verify", again, expect=1).stdout
    assert "was not written by data-diet, or is damaged" in told
    assert "1 part, 60 rows" in data_diet("verify", output).stderr


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


def by_name(experiment, output, *options):
    """The scores, and the names of those there are."""
    data_diet("scores", experiment, "-o", output, *options)
    scores = pl.read_parquet(output)
    return scores, [name[:-5] for name in scores.columns if name.endswith("_mean")]


def over_runs(per_run):
    """Of a series by run and example."""
    return per_run.groupby("example").agg(["mean", "std", "count"]).sort_index()


def assert_same(scores, name, expected):
    """One score against a frame of pandas; an example that the frame does not have has no value."""
    expected = expected.reindex(scores["example"].to_list())
    expected["count"] = expected["count"].fillna(0)
    for statistic in ["mean", "std", "count"]:
        column = f"{name}_{statistic}"
        np.testing.assert_allclose(
            scores[column].to_numpy(), expected[statistic].to_numpy(), 1e-12, 1e-12, err_msg=column
        )


def observations_of(experiment):
    types = {"run": str, "phase": str}
    frame = pd.read_parquet(experiment / "observations").astype(types)
    return frame.astype({name: float for name in definitions.SIGNALS if name in frame})


def test_only_the_epochs_asked_for(small, tmp_path):
    _, names = by_name(small.path, tmp_path / "scores", "--at-epoch", "1")
    assert [name for name in names if name.startswith("el2n")] == [
        "el2n",
        "el2n_train_epoch_1",
        "el2n_score_epoch_1",
    ]
    data_diet("scores", small.path, "-o", tmp_path / "scores", "--at-epoch", "9", expect=1)


@pytest.mark.parametrize("signal", definitions.SIGNALS)
def test_every_signal_at_epochs_and_steps(small, tmp_path, signal):
    frame = observations_of(small.path)
    for option, moments, column, suffix in [
        ("--at-epoch", "1,2", "epoch", "epoch_{}"),
        ("--at-epoch", "1..2", "epoch", "epochs_1_to_2"),
        ("--at-step", "3,8", "step", "step_{}"),
        ("--at-step", "2..9", "step", "steps_2_to_9"),
    ]:
        output = tmp_path / "scores"
        scores, names = by_name(small.path, output, "--score", signal, option, moments)
        expected_names = set()
        spans = moments.split(",") if "," in moments else [moments]
        for phase, of_phase in frame.groupby("phase"):
            for span in spans:
                first, last = map(int, span.split("..") if ".." in span else (span, span))
                rows = of_phase[of_phase[column].between(first, last)]
                if len(rows):
                    name = f"{signal}_{phase}_{suffix.format(span)}"
                    expected_names.add(name)
                    per_run = rows.groupby(["run", "example"])[signal].mean()
                    assert_same(scores, name, over_runs(per_run))
        assert set(names) == expected_names


def train_scores(frame):
    """AUM and the dataset map from their definitions, by pandas: one frame per score."""
    train = frame[frame["phase"] == "train"]
    groups = train.groupby(["run", "example"])
    scores = {"aum": groups["margin"].mean()}
    scores["cartography_correctness"] = groups["correct"].mean()
    if "confidence" not in train and "loss" in train:
        # Of class labels the one follows from the other.
        train = train.assign(confidence=np.exp(-train["loss"]).astype("float32").astype(float))
        groups = train.groupby(["run", "example"])
    if "confidence" in train:
        scores["cartography_confidence"] = groups["confidence"].mean()
        scores["cartography_variability"] = groups["confidence"].std(ddof=0)
    return {name: over_runs(per_run.dropna()) for name, per_run in scores.items()}


def test_aum_and_cartography(small, tmp_path):
    scores, names = by_name(small.path, tmp_path / "scores")
    for name, expected in train_scores(observations_of(small.path)).items():
        assert_same(scores, name, expected)
    assert names[-4:] == [
        "aum",
        "cartography_confidence",
        "cartography_variability",
        "cartography_correctness",
    ]


def test_scores_over_time_and_over_a_span_of_it(recording, experiment, tmp_path):
    """23 epochs, so that windows slide; example 0 comes in the first three only, 1 twice in each."""
    random = np.random.default_rng(8)
    presented = []
    recording.open(experiment, "only", 3, signals=["confidence"], logits="off")
    for epoch in range(23):
        ids = random.permutation([*range(0 if epoch < 3 else 1, 12), 1])
        logits = random.normal(size=(len(ids), 3)).astype(np.float32)
        # Example 2 is never right, the others more and more often.
        logits[np.arange(len(ids)), ids % 3] += np.where(ids == 2, -9, 0.15 * epoch).astype(np.float32)
        recording.record("train", ids, ids % 3, logits, epoch=epoch, batch_rows=4)
        of_rows = definitions.signals(logits, definitions.one_hot(ids % 3, 3))
        for row, example in enumerate(ids):
            right = logits[row].argmax() == example % 3
            presented.append((epoch, example, of_rows["confidence"][row], right))
    assert recording.finish()["status"] == "finished"
    names = [("--score", name) for name in definitions.over_time([0.5], [True])]
    asked = [option for pair in names for option in pair]
    for options, first, last, suffix in [
        ((), 0, 22, ""),
        (("--at-epoch", "0..4"), 0, 4, "_epochs_0_to_4"),
        (("--at-epoch", "2..20"), 2, 20, "_epochs_2_to_20"),
    ]:
        scores, _ = by_name(experiment, tmp_path / "scores", *asked, *options)
        for row in scores.iter_rows(named=True):
            of_example = [
                (p, right)
                for epoch, example, p, right in presented
                if example == row["example"] and first <= epoch <= last
            ]
            for name, expected in definitions.over_time(*zip(*of_example)).items():
                got = row[f"{name}{suffix}_mean"]
                np.testing.assert_allclose(got, expected, 1e-5, 1e-7, err_msg=f"{name}{suffix}")
        assert scores["example"].to_list() == list(range(12))
        assert (scores[f"cartography_forgetting{suffix}_mean"] == 1000).to_list()[2]


def test_aum_where_runs_miss_examples_epochs_or_numbers(ten_runs, scores_of_ten):
    for name, expected in train_scores(observations_of(ten_runs)).items():
        assert_same(scores_of_ten, name, expected)
    told = data_diet("scores", ten_runs, "-o", "x", "--score", "el1n", expect=1).stderr
    assert "no chosen run has recorded `el1n`" in told
    assert "no logits; needed: the signal `el1n` switched on, or every logit as f32" in told


def test_runs_that_record_different_signals(recording, experiment, tmp_path):
    random = np.random.default_rng(3)
    for run, signals in [("a", ["loss", "confidence"]), ("b", ["margin"]), ("c", ["confidence"])]:
        ids = random.permutation(20)
        recording.open(experiment, run, 3, signals=signals, logits="off")
        for epoch in range(3):
            logits = random.normal(size=(20, 3)).astype(np.float32)
            recording.record("train", ids, ids % 3, logits, epoch=epoch, batch_rows=8)
        assert recording.finish()["status"] == "finished"
    scores, names = by_name(experiment, tmp_path / "scores", "--score", "aum", "--score", "cartography")
    frames = [
        observations_of_run(experiment, run).assign(run=run, phase="train") for run in ["a", "b", "c"]
    ]
    for name, expected in train_scores(pd.concat(frames)).items():
        assert_same(scores, name, expected)
    counts = [scores[f"{name}_count"].max() for name in names]
    assert counts == [1, 2, 2, 3]


@pytest.mark.parametrize("classes", [2, 10])
def test_signals_that_were_not_recorded(recording, experiment, tmp_path, classes):
    """From the logits of a recording with default settings, in every phase, against NumPy."""
    random = np.random.default_rng(classes)
    recording.open(experiment, "fold-0", classes, signals=["el2n"])
    rows = {}
    for epoch in range(2):
        for phase in ["train", "score", "held_out"]:
            # Some come twice.
            ids = random.integers(0, 30, 40)
            logits = 3 * random.normal(size=(40, classes)).astype(np.float32)
            recording.record(phase, ids, ids % classes, logits, epoch=epoch, batch_rows=16)
            signals = definitions.signals(logits, definitions.one_hot(ids % classes, classes))
            rows[phase, epoch] = pd.DataFrame(signals).assign(example=ids, run="fold-0")
    assert recording.finish()["status"] == "finished"
    for signal in definitions.SIGNALS:
        scores, names = by_name(
            experiment, tmp_path / "scores", "--score", signal, "--at-epoch", "all"
        )
        assert set(names) == {f"{signal}_{phase}_epoch_{epoch}" for phase, epoch in rows}
        for (phase, epoch), frame in rows.items():
            expected = frame.groupby("example")[signal].mean().reindex(scores["example"].to_list())
            got = scores[f"{signal}_{phase}_epoch_{epoch}_mean"].to_numpy()
            np.testing.assert_allclose(got, expected.to_numpy(), 3e-7, 3e-7, err_msg=signal)


def observations_of_run(experiment, run):
    """One run by itself: the columns of the others may differ."""
    return pd.concat(
        pd.read_parquet(path, partitioning=None)
        for path in sorted(experiment.glob(f"observations/run={run}/**/*.parquet"))
    ).pipe(lambda frame: frame.astype({name: float for name in frame if name in definitions.SIGNALS}))


def test_toneva_order_over_several_runs(recording, experiment, tmp_path):
    """The published procedure: per run, an example's forgetting events are counted, or its
    presentations if it was never learned; summed over runs; sorted."""
    random = np.random.default_rng(11)
    examples, epochs, runs = 40, 6, 4
    totals = [0] * examples
    never_learned_anywhere = {5, 12, 39}
    for run in range(runs):
        ability = random.uniform(size=examples)
        batches = []
        histories = {example: [] for example in range(examples)}
        for _ in range(epochs):
            batch = []
            for example in random.permutation(examples).tolist():
                right = bool(random.uniform() < ability[example])
                right = right and example not in never_learned_anywhere
                histories[example].append(right)
                batch.append((example, right))
            batches.append(batch)
        record_history(recording, experiment, f"seed-{run}", batches)
        for example, history in histories.items():
            forgotten, last, learned = 0, False, False
            for right in history:
                if last and not right:
                    forgotten += 1
                last = right
                learned = learned or right
            totals[example] += forgotten if learned else len(history)
    options = ["--score", "forgetting", "--score", "never_learned"]
    scores, names = by_name(experiment, tmp_path / "scores", *options)
    assert names == ["forgetting", "never_learned"]
    np.testing.assert_allclose(scores["forgetting_mean"].to_numpy() * runs, totals, 1e-12)
    published = sorted(range(examples), key=lambda example: (totals[example], example))
    ours = scores.sort("forgetting_mean", "example")["example"].to_list()
    assert ours == published
    assert set(ours[-3:]) == never_learned_anywhere
    learned_nowhere = scores.filter(pl.col("never_learned_mean") == 1)["example"]
    assert set(learned_nowhere) == never_learned_anywhere


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """More than a row group of scores, of which the ids are no row numbers."""
    recording = Recording(tmp_path_factory.mktemp("arrays"))
    path = tmp_path_factory.mktemp("wide") / "experiment"
    ids = np.arange(140_000) * 3 + 7
    recording.open(path, "only", 2, logits="off")
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(ids)
        logits = np.stack([order % 5 - 2, np.zeros(len(order))], 1).astype(np.float32)
        recording.record("train", order, np.zeros(len(order)), logits, epoch=epoch, batch_rows=4096)
    assert recording.finish()["status"] == "finished"
    recording.close()
    return path, ids


def test_every_reader_agrees_on_a_large_table(wide, tmp_path):
    path, ids = wide
    output = tmp_path / "scores.parquet"
    data_diet("scores", path, "-o", output)
    by_pl, by_pd = pl.read_parquet(output), pd.read_parquet(output)
    by_duck = duckdb.sql(f"SELECT * FROM read_parquet('{output}')").pl()
    assert by_pl["example"].equals(pl.Series("example", ids))
    np.testing.assert_allclose(by_pl["aum_mean"].to_numpy(), ids % 5 - 2.0)
    for name in by_pl.columns:
        expected = by_pl[name].to_numpy()
        np.testing.assert_array_equal(by_pd[name].to_numpy(), expected, err_msg=name)
        np.testing.assert_array_equal(by_duck[name].to_numpy(), expected, err_msg=name)


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


def test_grand_is_a_score_like_any_other(recording, experiment, tmp_path):
    random = np.random.default_rng(5)
    ids = np.arange(40)
    labels = ids % 3
    rows = []
    for run in ["seed-0", "seed-1"]:
        recording.open(experiment, run, 3, logits="off")
        for epoch in range(3):
            order = random.permutation(ids)
            norms = random.gamma(2, 1, ids.size).astype(np.float32)
            norms[0] = np.inf if epoch == 1 else norms[0]
            recording.record("grand", order, labels[order], norms, step=10 * epoch, epoch=epoch)
            rows += [(run, epoch, *row) for row in zip(order, norms, strict=True)]
            recording.record("train", order, labels[order], np.zeros((ids.size, 3), np.float32))
        recording.finish()
    frame = pd.DataFrame(rows, columns=["run", "epoch", "example", "grand"]).astype({"grand": float})
    output = tmp_path / "scores.parquet"
    asked = [argument for at in range(3) for argument in ("--score", f"grand_epoch_{at}")]
    told = data_diet("scores", experiment, *asked, "--score", "grand", "-o", output).stderr
    assert "2 observations" in told
    scores = pl.read_parquet(output)
    for epoch in range(3):
        values = frame[(frame["epoch"] == epoch) & np.isfinite(frame["grand"])]
        expected = values.groupby("example")["grand"].agg(["mean", "std", "count"])
        expected = expected.reindex(ids).fillna({"count": 0})
        for statistic in ["mean", "std", "count"]:
            np.testing.assert_allclose(
                scores[f"grand_epoch_{epoch}_{statistic}"], expected[statistic], rtol=1e-13
            )
    assert scores["grand_mean"].equals(scores["grand_epoch_2_mean"])
    at_step = tmp_path / "step.parquet"
    data_diet("scores", experiment, "--score", "grand", "--at-step", 20, "-o", at_step)
    assert pl.read_parquet(at_step)["grand_step_20_mean"].equals(scores["grand_mean"])

    manifest, kept = tmp_path / "manifest.csv", tmp_path / "kept.csv"
    manifest.write_text("id\n" + "".join(f"{example}\n" for example in ids))
    choice = ["--by", "grand", "--keep", "highest", "--count", 10]
    data_diet("filter", "--scores", output, "--manifest", manifest, "--key", "id", *choice, "-o", kept)
    expected = scores.sort("grand_mean", "example").tail(10)["example"].sort()
    assert sorted(map(int, kept.read_text().split()[1:])) == expected.to_list()
