"""The analysis scripts in examples/ agree with `data-diet scores`, and say so when they do not."""

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from recording import REPOSITORY, data_diet, record_history

SCRIPTS = ["polars_scores.py", "pandas_scores.py"]


def analyse(script, experiment, *arguments, expect=0):
    command = [sys.executable, REPOSITORY / "examples" / script, experiment, *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    told = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == expect, f"{script} ended with {done.returncode}, not {expect}:\n{told}"
    return done


@pytest.fixture
def scores(small, tmp_path):
    output = tmp_path / "scores.parquet"
    data_diet("scores", small.path, "-o", output)
    return output


@pytest.mark.parametrize("script", SCRIPTS)
def test_agreement(small, scores, script):
    told = analyse(script, small.path, "-n", 3, "--check", scores).stdout
    assert f"agrees with {scores}" in told
    table = pl.read_parquet(scores).sort("el2n_mean", descending=True)
    first, fourth = table["example"][0], table["example"][3]
    assert str(first) in told and str(fourth) not in told
    assert str(table["el2n_mean"][0])[:6] in told


@pytest.mark.parametrize("script", SCRIPTS)
def test_agreement_where_runs_miss_examples_epochs_or_numbers(ten_runs, tmp_path, script):
    output = tmp_path / "scores.parquet"
    data_diet("scores", ten_runs, "-o", output)
    analyse(script, ten_runs, "--check", output)


@pytest.mark.parametrize("script", SCRIPTS)
def test_agreement_on_padded_ranks_and_repeated_examples(recording, experiment, tmp_path, script):
    random = np.random.default_rng(8)
    for run in ["a", "b"]:
        for rank in range(3):
            # Ids of one rank overlap with the next one's, and occur several times in a batch.
            ids = np.arange(8) + 6 * rank
            batches = [
                [(int(example), bool(random.integers(2))) for example in random.choice(ids, 12)]
                for _ in range(6)
            ]
            record_history(recording, experiment, run, batches, rank=rank)
    output = tmp_path / "scores.parquet"
    told = data_diet("scores", experiment, "-o", output).stderr
    assert "repeated on a second rank" in told
    analyse(script, experiment, "--check", output)


@pytest.mark.parametrize("script", SCRIPTS)
def test_agreement_on_folds(folds, tmp_path, script):
    output = tmp_path / "scores.parquet"
    told = data_diet("scores", folds, "-o", output).stderr
    assert "el2n is el2n_train_epoch_1" in told
    told = analyse(script, folds, "--check", output).stdout
    assert "by EL2N (train phase, epoch 1)" in told


@pytest.mark.parametrize("script", SCRIPTS)
def test_held_out_rows_alone(recording, experiment, tmp_path, script):
    recording.open(experiment, "fold-0", 3)
    ids = np.arange(9)
    logits = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    recording.record("held_out", ids, ids % 3, logits, epoch=2)
    recording.finish()
    output = tmp_path / "scores.parquet"
    assert "el2n is el2n_held_out_epoch_2" in data_diet("scores", experiment, "-o", output).stderr
    told = analyse(script, experiment, "--check", output).stdout
    assert "by EL2N (held_out phase, epoch 2)" in told


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "column",
    [
        "el2n_train_epoch_0_mean",
        "el2n_score_epoch_3_std",
        "forgetting_mean",
        "forgetting_inf_mean",
        "never_learned_mean",
    ],
)
def test_one_wrong_number_is_found(small, scores, script, column):
    table = pl.read_parquet(scores)
    values = table[column].to_list()
    values[17] = 1e-6 if values[17] == float("inf") else values[17] + 1e-6
    table.with_columns(pl.Series(column, values)).write_parquet(scores)
    told = analyse(script, small.path, "--check", scores, expect=1).stderr
    assert told == f"{column}: 1 of 60 examples differ\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_example_an_unknown_epoch_and_a_foreign_table_are_found(small, scores, script):
    table = pl.read_parquet(scores)
    table.filter(pl.col("example") != 0).write_parquet(scores)
    told = analyse(script, small.path, "--check", scores, expect=1).stderr
    assert "forgetting_mean: 1 of 60 examples differ" in told

    renamed = {"el2n_train_epoch_0_mean": "el2n_train_epoch_7_mean"}
    table.rename(renamed).write_parquet(scores)
    told = analyse(script, small.path, "--check", scores, expect=1).stderr
    assert "el2n_train_epoch_7_mean: 60 of 60 examples differ" in told

    table.select("example", "label").write_parquet(scores)
    told = analyse(script, small.path, "--check", scores, expect=1).stderr
    assert "is known" in told
