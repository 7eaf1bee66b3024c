"""`data-diet compare` against its definitions in NumPy: every pair, every rank, every resample."""

import json

import numpy as np
import polars as pl
import pytest
from recording import data_diet

FRACTIONS = [0.1, 0.3, 0.5, 0.7, 1.0]


def ranks(values):
    """Ranks from 1; ties take the mean of theirs."""
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    return below + (equal + 1) / 2


def spearman(first, second):
    return np.corrcoef(ranks(first), ranks(second))[0, 1]


def kendall(first, second):
    """Tau-b over all pairs."""

    def signs(values):
        return (values[:, None] > values).astype(int) - (values[:, None] < values)

    a, b = signs(first), signs(second)
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def kept(examples, values, fraction, keep):
    """The kept examples with their number of copies, ties broken by id."""
    order = np.lexsort((examples, values))
    count = int(np.floor(fraction * len(values) + 0.5))
    chosen = order[len(order) - count :] if keep == "highest" else order[:count]
    return np.bincount(examples[chosen], minlength=examples.max() + 1)


def shared(examples, first, second, fraction, keep):
    a, b = (kept(examples, values, fraction, keep) for values in (first, second))
    return np.minimum(a, b).sum() / a.sum()


@pytest.fixture
def table(tmp_path):
    """A score without ties, a noisy version of it, counts with ties and infinity, and a constant."""
    random = np.random.default_rng(12)
    n = 300
    smooth = random.normal(size=n)
    counts = random.poisson(np.exp(smooth / 2)).astype(float)
    frame = pl.DataFrame(
        {
            "example": random.permutation(n),
            "smooth": smooth,
            "noisy": smooth + random.normal(size=n),
            "counts": np.where(counts > 5, np.inf, counts),
            "few": np.round(smooth),
            "holes": np.where(random.uniform(size=n) < 0.1, np.nan, smooth),
        }
    )
    frame.write_parquet(tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet", frame.sort("example")


def compare(path, *arguments):
    done = data_diet("compare", "--scores", path, *arguments, "--json")
    return json.loads(done.stdout)["comparisons"]


@pytest.mark.parametrize("keep", ["highest", "lowest"])
def test_every_measure(table, keep):
    path, frame = table
    names = ["smooth", "noisy", "counts", "few", "holes"]
    fractions = ",".join(map(str, FRACTIONS))
    comparisons = compare(
        path, *names, "--keep", keep, "--fractions", fractions, "--bootstrap", 0
    )
    assert len(comparisons) == 10
    for comparison in comparisons:
        first, second = (frame[comparison[which]].to_numpy() for which in ("first", "second"))
        both = ~(np.isnan(first) | np.isnan(second))
        first, second, examples = first[both], second[both], frame["example"].to_numpy()[both]
        assert comparison["examples"] == both.sum()
        assert comparison["without_score"] == (~both).sum()
        np.testing.assert_allclose(
            comparison["spearman"]["value"], spearman(first, second), rtol=1e-12
        )
        np.testing.assert_allclose(
            comparison["kendall"]["value"], kendall(first, second), rtol=1e-12
        )
        for fraction, overlap in zip(FRACTIONS, comparison["overlaps"], strict=True):
            expected = shared(examples, first, second, fraction, keep)
            np.testing.assert_allclose(overlap["value"], expected, rtol=1e-12)


@pytest.mark.parametrize("second", ["noisy", "counts"])
def test_intervals_are_those_of_a_bootstrap(table, second):
    path, frame = table
    options = ["--fractions", "0.3", "--bootstrap", 2000, "--level", 0.9]
    (comparison,) = compare(path, "smooth", second, *options)
    random = np.random.default_rng(0)
    a, b = frame["smooth"].to_numpy(), frame[second].to_numpy()
    resampled = {"spearman": [], "kendall": [], "shared": []}
    for _ in range(400):
        drawn = random.integers(0, len(a), len(a))
        resampled["spearman"].append(spearman(a[drawn], b[drawn]))
        resampled["kendall"].append(kendall(a[drawn], b[drawn]))
        resampled["shared"].append(shared(drawn, a[drawn], b[drawn], 0.3, "highest"))
    for name, ours in [
        ("spearman", comparison["spearman"]),
        ("kendall", comparison["kendall"]),
        ("shared", comparison["overlaps"][0]),
    ]:
        spread = np.std(resampled[name])
        # The ends of 400 resamples are known to about 0.1 standard deviations.
        low, high = np.quantile(resampled[name], [0.05, 0.95])
        assert abs(ours["low"] - low) < 0.5 * spread, name
        assert abs(ours["high"] - high) < 0.5 * spread, name
        assert abs((ours["high"] - ours["low"]) / (2 * 1.645 * spread) - 1) < 0.15, name


def test_a_constant_has_no_correlation(tmp_path):
    path = tmp_path / "scores.parquet"
    pl.DataFrame({"example": range(9), "x": [1.0] * 9, "y": np.arange(9.0)}).write_parquet(path)
    (comparison,) = compare(path, "x", "y", "--bootstrap", 10)
    assert comparison["spearman"] == {"value": None, "low": None, "high": None}
    assert comparison["kendall"] == {"value": None, "low": None, "high": None}
    assert comparison["overlaps"][1]["value"] == 1
