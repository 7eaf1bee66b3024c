"""`data-diet scores` against a forgetting counter written from Toneva's definition."""

import definitions
import numpy as np
import polars as pl
import pytest
from recording import data_diet, record_history

SCORES = ["forgetting", "forgetting_inf", "never_learned", "first_learned", "presentations"]


def expected_scores(runs):
    """Means, sample standard deviations and counts over runs of `{id: [correct, ...]}`."""
    rows = []
    for example in sorted(set().union(*runs)):
        row = {"example": example, "runs": sum(example in run for run in runs)}
        of_runs = [definitions.forgetting(run[example]) for run in runs if example in run]
        for name in SCORES:
            values = np.array([scores[name] for scores in of_runs])
            values = values[~np.isnan(values)]
            finite = len(values) > 1 and np.isfinite(values).all()
            row[f"{name}_mean"] = values.mean() if len(values) else np.nan
            row[f"{name}_std"] = values.std(ddof=1) if finite else np.nan
            row[f"{name}_count"] = len(values)
        rows.append(row)
    return pl.DataFrame(rows)


def assert_scores(experiment, runs):
    output = experiment / "scores.parquet"
    data_diet("scores", experiment, "-o", output)
    scores = pl.read_parquet(output)
    expected = expected_scores(runs)
    for name in expected.columns:
        np.testing.assert_allclose(
            scores[name].to_numpy(), expected[name].to_numpy(), rtol=1e-12, err_msg=name
        )
    return scores


def per_example(history):
    presentations = {}
    for batch in history:
        for example, right in batch:
            presentations.setdefault(example, []).append(right)
    return presentations


def test_every_history_of_up_to_seven_presentations(recording, experiment):
    # One example per history of exactly seven, so that both conventions see every pattern.
    length = 7
    histories = [[bool(code >> at & 1) for at in range(length)] for code in range(2**length)]
    batches = [[(code, right[at]) for code, right in enumerate(histories)] for at in range(length)]
    record_history(recording, experiment, "only", batches)
    scores = assert_scores(experiment, [per_example(batches)])
    # Spelled out once by hand, lest counter and test be wrong together.
    by_history = dict(zip(map(tuple, histories), scores["forgetting_mean"]))
    assert by_history[(False,) * 7] == 7
    assert by_history[(True,) * 7] == 0
    assert by_history[(True, False, True, False, True, False, True)] == 3
    assert by_history[(False, False, False, False, False, False, True)] == 0
    assert by_history[(True, False, False, False, False, False, False)] == 1


def test_random_histories_over_three_runs(recording, experiment):
    random = np.random.default_rng(5)
    runs = []
    for run in range(3):
        learned = random.uniform(size=(5, 90)) < np.linspace(0, 1, 90)
        batches = []
        for epoch in range(5):
            order = random.permutation(90)
            for start in range(0, 90, 13):
                ids = order[start : start + 13].tolist()
                batches.append([(example, bool(learned[epoch, example])) for example in ids])
        record_history(recording, experiment, f"seed-{run}", batches)
        runs.append(per_example(batches))
    scores = assert_scores(experiment, runs)
    assert scores["never_learned_mean"].max() == 1 and scores["forgetting_mean"].n_unique() > 5


def test_an_id_twice_in_a_batch_counts_in_order_of_position(recording, experiment):
    batches = [[(4, True), (9, False), (4, False)], [(9, True), (4, True), (4, False), (9, False)]]
    record_history(recording, experiment, "only", batches)
    scores = assert_scores(experiment, [per_example(batches)])
    assert scores["forgetting_mean"].to_list() == [2, 1]
    assert scores["presentations_mean"].to_list() == [4, 3]


def test_an_example_that_one_run_never_saw_counts_over_the_others(recording, experiment):
    first = [[(0, True), (1, False)], [(0, False), (1, False)]]
    second = [[(1, True), (2, False)], [(1, False), (2, True)]]
    record_history(recording, experiment, "a", first)
    record_history(recording, experiment, "b", second)
    scores = assert_scores(experiment, [per_example(first), per_example(second)])
    assert scores["runs"].to_list() == [1, 2, 1]
    assert scores["forgetting_inf_mean"].to_list() == [1, float("inf"), 0]


def test_never_learned_ranks_above_every_learned_example(recording, experiment):
    # Ids are not presented equally often: example 0 was never learned and seldom shown.
    batches = [[(1, bool(at % 2))] for at in range(9)] + [[(0, False)], [(0, False)]]
    record_history(recording, experiment, "only", batches)
    data_diet("scores", experiment, "-o", experiment / "scores.parquet")
    never, often = pl.read_parquet(experiment / "scores.parquet")["forgetting_mean"]
    assert often == 4
    # The library takes the run's largest number of presentations.
    assert never == 9


def test_a_padded_rank_does_not_count_twice(recording, experiment):
    record_history(recording, experiment, "run", [[(0, True), (1, True)], [(0, True), (1, False)]])
    # Rank 1 was given example 0 once more, to be as long as rank 0.
    record_history(recording, experiment, "run", [[(2, True), (0, False)], [(2, False)]], rank=1)
    expected = {0: [True, True], 1: [True, False], 2: [True, False]}
    assert_scores(experiment, [expected])


@pytest.mark.parametrize("chosen", [["seed-0"], ["seed-1", "seed-0"]])
def test_chosen_runs(small, tmp_path, chosen):
    output = tmp_path / "scores.parquet"
    options = [part for run in chosen for part in ("--run", run)]
    data_diet("scores", small.path, "-o", output, *options)
    scores = pl.read_parquet(output)
    assert scores["runs"].to_list() == [len(chosen)] * small.EXAMPLES
    assert scores["forgetting_count"].to_list() == [len(chosen)] * small.EXAMPLES
