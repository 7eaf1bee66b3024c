"""`data-diet filter` against the selections of the papers' programs, on made-up tables of scores."""

import json
import math

import numpy as np
import polars as pl
import pytest
import selections
from recording import data_diet

EXAMPLES, CLASSES = 997, 7


def share(fraction):
    """A share of all examples, a half upwards; Python rounds a half to the even side."""
    return int(fraction * EXAMPLES + 0.5)


class Table:
    """Scores of examples 0 to 996 in a file whose rows stand in no order, and a manifest of them."""

    def __init__(self, path):
        random = np.random.default_rng(11)
        self.path = path
        self.labels = random.integers(0, CLASSES, EXAMPLES)
        noise = random.normal(size=EXAMPLES)
        self.scores = {
            "el2n": np.abs(noise),
            "forgetting": random.poisson(2.0, EXAMPLES).astype(float),
            "aum": random.normal(2.0, 3.0, EXAMPLES) - 4 * (noise > 1.5),
        }
        # Means of 30 predictions; hard and uncertain examples have the highest DUAL.
        mean = random.beta(1.5, 1.0, EXAMPLES)
        self.scores["mean"] = mean
        self.scores["dual"] = (1 - mean) * np.sqrt(mean * (1 - mean)) * random.uniform(0.5, 1, EXAMPLES)
        order = random.permutation(EXAMPLES)
        columns = {name: scores[order] for name, scores in self.scores.items()}
        frame = pl.DataFrame({"example": order, "label": self.labels[order], **columns})
        frame.write_parquet(path / "scores.parquet")
        rows = "".join(f"{row}.png\n" for row in range(EXAMPLES))
        (path / "train.csv").write_text("file\n" + rows)

    def kept(self, *options, output="kept.csv"):
        """The positions that a call keeps."""
        data_diet(
            *("filter", "--scores", self.path / "scores.parquet"),
            *("--manifest", self.path / "train.csv", *options, "-o", self.path / output),
        )
        rows = (self.path / output).read_text().splitlines()[1:]
        return np.array([int(row.removesuffix(".png")) for row in rows])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return Table(tmp_path_factory.mktemp("selections"))


@pytest.mark.parametrize("score", ["el2n", "forgetting", "aum"])
@pytest.mark.parametrize("size", [1, 300, 996, 997])
def test_ends_and_windows_of_data_diet(table, score, size):
    scores = table.scores[score]
    choose = ("--by", score, "--count", size, "--keep")
    expected = selections.keep_lowest(scores, size)
    np.testing.assert_array_equal(table.kept(*choose, "lowest"), expected)
    expected = selections.keep_highest(scores, size)
    np.testing.assert_array_equal(table.kept(*choose, "highest"), expected)
    offset = min(150, EXAMPLES - size)
    expected = selections.keep_window(scores, offset, size)
    np.testing.assert_array_equal(table.kept(*choose, "window", "--offset", offset), expected)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("score, hard", [("el2n", "high"), ("aum", "low")])
@pytest.mark.parametrize("strata", [1, 7, 50])
def test_coverage_centric_budgets(table, fraction, score, hard, strata):
    beta = 0.15
    scores = table.scores[score]
    left = selections.drop_hardest(scores, share(beta), hard)
    places = selections.strata_by_range(scores[left], strata)
    sizes = np.bincount(places, minlength=strata)
    budgets = selections.stratum_budgets(sizes, share(fraction))
    kept = table.kept(
        *("--by", score, "--keep", "stratified", "--fraction", fraction),
        *("--drop-hardest", beta, "--strata", strata, "--seed", 5),
    )
    assert len(kept) == share(fraction)
    assert np.isin(kept, left).all()
    kept_places = places[np.isin(left, kept)]
    np.testing.assert_array_equal(np.bincount(kept_places, minlength=strata), budgets)
    # What is kept whole is the same set; elsewhere the choice is random.
    whole = np.flatnonzero((budgets == sizes) & (sizes > 0))
    assert strata < 50 or fraction < 0.5 or len(whole) > 0
    for stratum in whole:
        assert np.isin(left[places == stratum], kept).all()


def test_coverage_centric_as_the_authors_program(table):
    """Dropped by AUM, strata of another score, whole numbers that lie on no border."""
    scores, aum = table.scores["forgetting"], table.scores["aum"]
    dropped, size = int(0.3 * EXAMPLES), int(0.4 * EXAMPLES)
    left = selections.drop_hardest(aum, dropped, "low")
    assert scores[left].min() == 0
    highest = int(scores[left].max())
    strata = next(strata for strata in range(4, 99) if math.gcd(strata, highest) == 1)
    places = selections.strata_by_widened_range(scores[left], strata)
    assert (places >= 0).all()
    sizes = np.bincount(places, minlength=strata)
    budgets = selections.stratum_budgets(sizes, size)
    kept = table.kept(
        *("--by", "forgetting", "--keep", "stratified", "--count", size, "--strata", strata),
        *("--drop-lowest", dropped, "--drop-by", "aum"),
    )
    kept_places = places[np.isin(left, kept)]
    assert np.isin(kept, left).all()
    np.testing.assert_array_equal(np.bincount(kept_places, minlength=strata), budgets)


@pytest.mark.parametrize("fraction, c_d, seed", [(0.1, 4, 0), (0.3, 4, 1), (0.9, 11, 2), (0.5, 0.5, 3)])
def test_beta_sampling(table, fraction, c_d, seed):
    """Draw for draw: the same generator, the density of the paper in full."""
    scores, means = table.scores["dual"], table.scores["mean"]
    weights = selections.beta_weights(scores, means, 1 - share(fraction) / EXAMPLES, c_d)
    uniforms = selections.splitmix64(seed, EXAMPLES)
    expected = selections.draw_without_replacement(weights, share(fraction), uniforms)
    choose = ("--by", "dual", "--keep", "beta", "--prediction-mean", "mean", "--c-d", c_d)
    kept = table.kept(*choose, "--fraction", fraction, "--seed", seed, output="beta.csv")
    np.testing.assert_array_equal(kept, expected)
    again = table.path / "again.csv"
    data_diet("filter", "--recipe", table.path / "beta.recipe.json", "--exact", "-o", again)
    assert again.read_bytes() == (table.path / "beta.csv").read_bytes()


def test_the_more_beta_sampling_prunes_the_easier_is_what_it_keeps(table):
    means = table.scores["mean"]
    choose = ("--by", "dual", "--keep", "beta", "--prediction-mean", "mean", "--fraction")
    kept = {share: means[table.kept(*choose, share)].mean() for share in (0.02, 0.1, 0.3)}
    assert kept[0.02] > kept[0.1] > kept[0.3] > 0, kept
    assert kept[0.02] > means.mean() + 0.1, kept


def test_random_keeps_no_side(table):
    """A mean of 250 of 997 values without replacement, within six of its standard deviations."""
    scores = table.scores["aum"]
    size = 250
    deviation = scores.std(ddof=1) / np.sqrt(size) * np.sqrt(1 - size / EXAMPLES)
    choose = ("--by", "aum", "--keep", "random", "--count", size, "--seed")
    chosen = [table.kept(*choose, seed) for seed in range(4)]
    for kept in chosen:
        assert len(np.unique(kept)) == size
        assert abs(scores[kept].mean() - scores.mean()) < 6 * deviation
    assert len(np.unique(np.concatenate(chosen))) > 2 * size
    np.testing.assert_array_equal(table.kept(*choose, 0), chosen[0])


def test_classes(table):
    scores, labels = table.scores["el2n"], table.labels
    of_class = [np.flatnonzero(labels == label) for label in range(CLASSES)]
    sizes = np.array([len(members) for members in of_class])
    choose = ("--by", "el2n", "--keep", "highest")

    kept = table.kept(*choose, "--count", 70, "--classes", "balanced")
    expected = [m[selections.keep_highest(scores[m], 10)] for m in of_class]
    np.testing.assert_array_equal(kept, np.sort(np.concatenate(expected)))

    kept = table.kept(*choose, "--fraction", 0.3, "--classes", "proportional")
    counts = np.bincount(labels[kept], minlength=CLASSES)
    assert len(kept) == share(0.3)
    assert (np.abs(counts - len(kept) * sizes / EXAMPLES) < 1).all()
    expected = [m[selections.keep_highest(scores[m], n)] for m, n in zip(of_class, counts)]
    np.testing.assert_array_equal(kept, np.sort(np.concatenate(expected)))

    # Floors first, then the highest of all the others.
    kept = table.kept(*choose, "--count", 200, "--class-floor", 25)
    floors = [m[selections.keep_highest(scores[m], 25)] for m in of_class]
    floors = np.concatenate(floors)
    others = np.setdiff1d(np.arange(EXAMPLES), floors)
    rest = others[selections.keep_highest(scores[others], 200 - len(floors))]
    np.testing.assert_array_equal(kept, np.sort(np.concatenate([floors, rest])))


def test_steps_and_recipe(table):
    el2n, aum = table.scores["el2n"], table.scores["aum"]
    kept = table.kept(
        *("--by", "el2n", "--keep", "highest", "--fraction", 0.5),
        *("--drop-lowest", "5%", "--drop-by", "aum"),
        output="steps.csv",
    )
    left = selections.drop_hardest(aum, share(0.05), "low")
    expected = left[selections.keep_highest(el2n[left], share(0.5))]
    np.testing.assert_array_equal(kept, expected)
    recipe = json.loads((table.path / "steps.recipe.json").read_text())
    assert recipe["schema_version"] == 1
    assert recipe["steps"] == [
        {"drop": {"lowest": {"fraction": 0.05}}, "by": "aum"},
        {"keep": {"highest": {"fraction": 0.5}}, "by": "el2n"},
    ]
    assert recipe["outcome"]["rows_kept"] == len(kept)
    classes = [row["kept"] for row in recipe["outcome"]["classes"]]
    np.testing.assert_array_equal(classes, np.bincount(table.labels[kept], minlength=CLASSES))
    again = table.path / "again.csv"
    data_diet("filter", "--recipe", table.path / "steps.recipe.json", "--exact", "-o", again)
    assert again.read_bytes() == (table.path / "steps.csv").read_bytes()
