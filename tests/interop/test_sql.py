"""examples/sql: the same views on DuckDB, Polars and Spark, against plain Python and the library."""

import importlib.util
import math
import os
import subprocess
import sys
from collections import defaultdict

import definitions
import numpy as np
import polars as pl
import pytest
from recording import ALL_SIGNALS, REPOSITORY, Recording, data_diet

VIEWS = REPOSITORY / "examples" / "sql" / "views.py"
CLASSES, EXAMPLES = 3, 40


def load(path):
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


views = load(VIEWS)


class Awkward:
    """Three runs of two ranks each, in many small parts, with everything that can go wrong.

    Ids of the ranks overlap, occur several times in a batch, and need 64 bits. Some logits are not
    finite, always for one example. The runs have different lengths and signals. `observations` holds
    what was recorded, in the order of each rank.
    """

    def __init__(self, path, recording: Recording):
        self.path = path
        self.observations = []
        for run, epochs in enumerate([2, 3, 3]):
            for rank in range(2):
                self._record(recording, run, rank, epochs)
        self.scores = path.with_name("scores.parquet")
        data_diet("scores", path, "-o", self.scores)

    def _record(self, recording, run, rank, epochs):
        random = np.random.default_rng(10 * run + rank)
        # The second run lacks what is recorded on request only.
        names = ["el2n", "loss", "margin"] if run == 1 else ALL_SIGNALS
        parts = {"flush_rows": 24, "publish_interval_ms": 0}
        recording.open(self.path, f"seed-{run}", CLASSES, rank=rank, signals=names, **parts)
        step = 0
        for epoch in range(epochs):
            # Some of the other rank's ids too, and not all of one's own.
            drawn = random.integers(rank * 15, 25 + rank * 15, 36)
            self._pass(recording, random, names, "train", run, rank, step, epoch, drawn)
            step += 3
            if run != 2 or rank == 0:
                self._pass(
                    recording, random, names, "score", run, rank, step, epoch + 1, np.arange(EXAMPLES)
                )
        assert recording.finish()["status"] == "finished"

    def _pass(self, recording, random, names, phase, run, rank, step, epoch, places):
        ids = places * 3_000_000_019
        labels = places % CLASSES
        logits = random.normal(size=(len(places), CLASSES)).astype(np.float32)
        # Some are learned from the second epoch on, so that histories differ.
        logits[np.arange(len(places)), labels] += np.where(places % 3 == 0, 1.5 * epoch, -0.5)
        logits[places == 5] = np.inf
        logits[random.integers(0, len(places), 2), 0] = np.nan
        # One that no run ever gets right, and that has numbers all the same.
        logits[places == 20, labels[places == 20]] = -9
        batch = 12 if phase == "train" else 50
        recording.record(phase, ids, labels, logits, epoch=epoch, batch_rows=batch)
        values = definitions.signals(logits, definitions.one_hot(labels, CLASSES))
        for row, example in enumerate(ids):
            observation = {name: float(np.float32(values[name][row])) for name in names}
            # What was not recorded follows from the loss.
            observation.setdefault("confidence", float(np.float32(np.exp(-observation["loss"]))))
            observation |= {"run": run, "phase": phase, "rank": rank, "example": int(example)}
            observation |= {"step": step + row // batch, "epoch": epoch}
            observation["correct"] = bool(values["correct"][row])
            self.observations.append(observation)


def expected_scores(observations):
    """`{(score, example): (mean, std, count)}` by plain Python."""
    first_ranks = {}
    for row in observations:
        key = (row["run"], row["phase"], row["epoch"], row["example"])
        first_ranks[key] = min(row["rank"], first_ranks.get(key, row["rank"]))
    counted = [
        row
        for row in observations
        if row["rank"] == first_ranks[row["run"], row["phase"], row["epoch"], row["example"]]
    ]
    # Per score and example, one number for each run that has one.
    of_runs = defaultdict(list)
    of_epochs, of_training = defaultdict(list), defaultdict(list)
    for row in counted:
        for name in ALL_SIGNALS:
            if not math.isnan(row.get(name, math.nan)):
                key = (row["run"], f"{name}_{row['phase']}_epoch_{row['epoch']}", row["example"])
                of_epochs[key].append(row[name])
        if row["phase"] == "train":
            of_training[row["run"], row["example"]].append(row)
    for (_, score, example), values in of_epochs.items():
        of_runs[score, example].append(np.mean(values))
    most = defaultdict(int)
    for (run, _), rows in of_training.items():
        most[run] = max(most[run], len(rows))
    for (run, example), rows in of_training.items():
        # A stable order: within a step the rows stay as they were recorded.
        rows.sort(key=lambda row: row["step"])
        scores = definitions.forgetting([row["correct"] for row in rows])
        if scores["never_learned"]:
            scores["forgetting"] = most[run]
        margins = [row["margin"] for row in rows if not math.isnan(row["margin"])]
        confidences = [row.get("confidence", math.nan) for row in rows]
        confidences = [value for value in confidences if not math.isnan(value)]
        if margins:
            scores["aum"] = np.mean(margins)
        if confidences:
            scores["cartography_confidence"] = np.mean(confidences)
            scores["cartography_variability"] = np.std(confidences)
        scores["cartography_correctness"] = np.mean([row["correct"] for row in rows])
        for score, value in scores.items():
            if not math.isnan(value):
                of_runs[score, example].append(value)
    # The score phase has its last common epoch at 2: the first run has no third one.
    for name in ALL_SIGNALS:
        for example in {example for _, example in of_runs}:
            if values := of_runs.get((f"{name}_score_epoch_2", example)):
                of_runs[name, example] = values
    statistics = {}
    for key, values in of_runs.items():
        finite = len(values) > 1 and np.isfinite(values).all()
        std = np.std(values, ddof=1) if finite else math.nan
        statistics[key] = (np.mean(values), std, len(values))
    return statistics


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    recording = Recording(tmp_path_factory.mktemp("arrays"))
    try:
        return Awkward(tmp_path_factory.mktemp("awkward") / "experiment", recording)
    finally:
        recording.close()


@pytest.fixture(scope="module", params=["duckdb", "polars", "spark"])
def engine(request, awkward):
    if request.param == "spark":
        # The session that the views find.
        request.getfixturevalue("spark")
    engine = views.ENGINES[request.param](awkward.path)
    views.create_views(engine)
    return engine


def test_the_recording_is_awkward(awkward):
    assert len(list(awkward.path.rglob("observations/**/*.parquet"))) > 20
    scores = pl.read_parquet(awkward.scores)
    assert scores["forgetting_mean"].n_unique() > 10
    assert scores["forgetting_inf_mean"].is_infinite().any()
    counts = scores["el2n_count"]
    assert counts[5] == 0 and set(counts) == {0, 2, 3}


def test_every_number(engine, awkward):
    rows = engine.rows("SELECT score, example, mean, std, count FROM scores")
    ours = {(score, example): statistics for score, example, *statistics in rows}
    assert len(ours) == len(rows), "one row for each score and example"
    expected = expected_scores(awkward.observations)
    assert ours.keys() == expected.keys()
    for statistic in range(3):
        values = [ours[key][statistic] for key in expected]
        values = [math.nan if value is None else value for value in values]
        theirs = [statistics[statistic] for statistics in expected.values()]
        np.testing.assert_allclose(values, theirs, rtol=1e-6, atol=2e-7)


def test_agreement_with_the_library(engine, awkward):
    assert views.disagreements(engine, awkward.scores) == []


def test_the_selection_is_that_of_the_command(engine, awkward, tmp_path):
    ids = pl.read_parquet(awkward.scores, columns=["example"])
    ids.write_csv(tmp_path / "all.csv")
    rule = ["--by", "el2n", "--keep", "highest", "--fraction", "0.7", "--unscored", "prune"]
    files = ["--scores", awkward.scores, "--manifest", tmp_path / "all.csv", "--key", "example"]
    data_diet("filter", *files, *rule, "-o", tmp_path / "kept.csv")
    kept = pl.read_csv(tmp_path / "kept.csv")["example"].to_list()
    assert 0 < len(kept) < EXAMPLES
    assert sorted(example for (example,) in engine.rows("SELECT example FROM selection")) == kept


@pytest.mark.parametrize("name", ["duckdb", "polars"])
def test_held_out_examples_do_not_change_what_a_bare_name_means(name, folds, tmp_path):
    engine = views.ENGINES[name](folds)
    views.create_views(engine)
    assert engine.rows("SELECT phase, epoch FROM latest") == [("train", 1)]
    output = tmp_path / "scores.parquet"
    data_diet("scores", folds, "-o", output)
    assert "el2n_held_out_epoch_1_mean" in pl.read_parquet_schema(output)
    assert views.disagreements(engine, output) == []


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("scored", [45, 46, 50])
def test_a_selection_rounds_and_breaks_ties_like_the_command(fraction, scored, tmp_path):
    # On one engine: the arithmetic is the same on all.
    import duckdb

    scores = pl.DataFrame({"example": np.arange(scored), "x": np.arange(scored) % 7 * 0.25})
    scores.write_parquet(tmp_path / "x.parquet")
    scores.select("example").write_csv(tmp_path / "all.csv")
    files = ["--scores", tmp_path / "x.parquet", "--manifest", tmp_path / "all.csv"]
    rule = ["--key", "example", "--by", "x", "--keep", "highest", "--fraction", fraction]
    data_diet("filter", *files, *rule, "-o", tmp_path / "kept.csv")
    kept = pl.read_csv(tmp_path / "kept.csv")["example"].to_list()
    (path,) = [path for path in views.VIEWS if path.stem.endswith("selection")]
    sql = path.read_text().replace("0.7", str(fraction))
    with duckdb.connect() as connection:
        table = f"SELECT 'el2n' AS score, example, x AS mean FROM '{tmp_path / 'x.parquet'}'"
        connection.execute(f"CREATE VIEW scores AS {table}")
        assert sorted(example for (example,) in connection.execute(sql).fetchall()) == kept


def analyse(experiment, *arguments, expect=0):
    command = [sys.executable, VIEWS, experiment, *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("name", ["duckdb", "polars"])
def test_the_script(awkward, name, tmp_path):
    told = analyse(awkward.path, "--engine", name, "-n", 2, "--check", awkward.scores).stdout
    assert f"agrees with {awkward.scores}" in told
    table = pl.read_parquet(awkward.scores).filter(~pl.col("el2n_mean").is_nan())
    first, second, third = table.sort("el2n_mean", descending=True)["example"][:3]
    assert str(first) in told and str(second) in told and str(third) not in told

    # One wrong number, and one example missing.
    wrong = pl.read_parquet(awkward.scores)
    wrong = wrong.with_columns(pl.col("forgetting_mean") + (pl.col("example") == 0) * 1e-6)
    wrong.filter(pl.col("example") != wrong["example"][1]).write_parquet(tmp_path / "wrong.parquet")
    check = ["--engine", name, "--check", tmp_path / "wrong.parquet"]
    told = analyse(awkward.path, *check, expect=1).stderr
    assert f"forgetting_mean: 2 of {EXAMPLES - 1} examples differ\n" in told
    assert f"forgetting_count: 1 of {EXAMPLES - 1} examples differ\n" in told


def test_the_script_lists_the_scores_there_are(awkward):
    told = analyse(awkward.path, "--engine", "duckdb", "--score", "grand", expect=1).stderr
    assert "no score `grand`; there are: aum, cartography_confidence, " in told


@pytest.mark.parametrize("name", ["duckdb", "polars", "spark"])
def test_grand_is_that_of_the_library(name, recording, experiment, request, tmp_path):
    if name == "spark":
        request.getfixturevalue("spark")
    random = np.random.default_rng(3)
    for run in range(2):
        for rank in range(2):
            recording.open(experiment, f"seed-{run}", CLASSES, rank=rank, logits="off")
            for epoch in range(2):
                # Ids of both ranks overlap; some come twice in a batch, and one is never finite.
                ids = random.integers(8 * rank, 8 * rank + 20, 30)
                norms = random.gamma(2, 1, ids.size).astype(np.float32)
                norms[ids == 9] = np.inf
                zeros = np.zeros((ids.size, CLASSES), dtype=np.float32)
                recording.record("train", ids, ids % CLASSES, zeros, epoch=epoch)
                recording.record("grand", ids, ids % CLASSES, norms)
            recording.finish()
    output = tmp_path / "scores.parquet"
    epochs = ["grand_epoch_0", "grand_epoch_1"]
    data_diet("scores", experiment, "--score", epochs[0], "--score", epochs[1], "-o", output)
    engine = views.ENGINES[name](experiment)
    views.create_grand_scores(engine, experiment)
    rows = engine.rows("SELECT score, example, mean, std, count FROM grand_scores")
    ours = {(score, example): statistics for score, example, *statistics in rows}
    library = pl.read_parquet(output)
    expected = {}
    for score in epochs:
        columns = ["example", *(f"{score}_{statistic}" for statistic in ["mean", "std", "count"])]
        for example, *statistics in library.select(columns).rows():
            if statistics[2] > 0:
                expected[score, example] = statistics
    assert ours.keys() == expected.keys() and len(ours) > 40
    assert all(example != 9 for _, example in ours)
    for key, statistics in ours.items():
        assert all(map(views.same, statistics, expected[key])), key
    assert views.disagreements(engine, output, ["grand_scores"]) == []
