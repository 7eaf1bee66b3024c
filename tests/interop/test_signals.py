"""Every signal that the hook records, against its formula in NumPy float64."""

import definitions
import numpy as np
import pyarrow.parquet as parquet
import pytest
from recording import ALL_SIGNALS, Refused

# A recorded value is the float32 next to the truth, within a few roundings of the last bit.
RELATIVE = 4 * 2.0**-24
# NumPy's p - y cancels where p is nearly 1: the reference itself is no better than this.
ABSOLUTE = 4e-15


def record(recording, experiment, logits, targets, as_recorded=None):
    """Records one batch and returns its observations in order.

    `as_recorded` is what the recorder is given where that is not the array itself.
    """
    rows, classes = np.shape(logits)
    recording.open(experiment, "run", classes, signals=ALL_SIGNALS, logits="off")
    given = logits if as_recorded is None else as_recorded
    recording.record("train", np.arange(rows), targets, given)
    report = recording.finish()
    assert report["status"] == "finished", report
    assert report["rows"]["written"] == rows
    table = parquet.read_table(experiment / "observations")
    assert table["example"].to_pylist() == list(range(rows))
    return {name: table[name].to_numpy() for name in ["label", "correct", *ALL_SIGNALS]}


def assert_agree(recorded, logits, targets):
    classes = np.shape(logits)[1]
    soft = targets if np.ndim(targets) == 2 else definitions.one_hot(targets, classes)
    # The hook takes soft targets as float32.
    expected = definitions.signals(logits, np.float32(soft))
    np.testing.assert_array_equal(recorded["label"], np.float32(soft).argmax(axis=1))
    np.testing.assert_array_equal(recorded["correct"], expected["correct"])
    # A difference of two logits: exact in float64, so the recorded value is its nearest float32.
    np.testing.assert_array_equal(recorded["margin"], np.float32(expected["margin"]))
    for name in ALL_SIGNALS:
        np.testing.assert_allclose(
            recorded[name], expected[name], rtol=RELATIVE, atol=ABSOLUTE, err_msg=name
        )


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_random_logits(recording, experiment, classes, scale):
    random = np.random.default_rng(classes)
    logits = random.uniform(-scale, scale, (400, classes)).astype(np.float32)
    labels = random.integers(classes, size=400)
    # Half of the rows are right, so that both branches of every definition are taken.
    labels[::2] = logits[::2].argmax(axis=1)
    recorded = record(recording, experiment, logits, labels)
    assert_agree(recorded, logits, labels)
    assert recorded["correct"][::2].all() and not recorded["correct"].all()


@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_ties_go_to_the_lowest_index(recording, experiment, classes):
    random = np.random.default_rng(7)
    logits = random.integers(0, 2, (300, classes)).astype(np.float32)
    logits[:20] = 3.0
    labels = random.integers(classes, size=300)
    labels[:20] = np.arange(20) % 2
    recorded = record(recording, experiment, logits, labels)
    assert_agree(recorded, logits, labels)
    np.testing.assert_array_equal(recorded["correct"][:20], labels[:20] == 0)
    np.testing.assert_array_equal(recorded["margin"][:20], 0.0)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("kind", ["dirichlet", "smoothed", "mixed"])
def test_soft_targets(recording, experiment, classes, kind):
    random = np.random.default_rng(classes)
    rows = 300
    logits = (3 * random.normal(size=(rows, classes))).astype(np.float32)
    hard = definitions.one_hot(random.integers(classes, size=rows), classes)
    if kind == "dirichlet":
        targets = random.dirichlet(np.ones(classes), size=rows)
    elif kind == "smoothed":
        targets = 0.9 * hard + 0.1 / classes
    else:
        part = random.uniform(size=(rows, 1))
        targets = part * hard + (1 - part) * hard[::-1]
    assert_agree(record(recording, experiment, logits, targets), logits, targets)


def test_one_hot_soft_targets_are_labels(recording, experiment):
    random = np.random.default_rng(3)
    logits = (4 * random.normal(size=(200, 6))).astype(np.float32)
    labels = random.integers(6, size=200)
    hard = record(recording, experiment, logits, labels)
    soft = record(recording, experiment.with_name("soft"), logits, definitions.one_hot(labels, 6))
    for name in hard:
        np.testing.assert_allclose(hard[name], soft[name], rtol=RELATIVE, atol=ABSOLUTE)


@pytest.mark.parametrize("scale", [1.0, 6e4])
def test_half_precision_logits(recording, experiment, scale):
    random = np.random.default_rng(16)
    logits = random.uniform(-scale, scale, (400, 12)).astype(np.float16)
    labels = random.integers(12, size=400)
    assert_agree(record(recording, experiment, logits, labels), logits, labels)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e38])
def test_bfloat16_logits(recording, experiment, scale):
    random = np.random.default_rng(17)
    bits, logits = definitions.bfloat16(random.uniform(-scale, scale, (400, 12)))
    labels = random.integers(12, size=400)
    recorded = record(recording, experiment, logits, labels, as_recorded=bits)
    assert_agree(recorded, logits, labels)


def test_double_precision_logits_are_not_narrowed(recording, experiment):
    # Differences that float32 cannot hold decide the margin and who is right.
    logits = np.array([[1e6, 1e6 + 1e-6], [1e6 + 1e-6, 1e6], [0.1, 0.2]])
    labels = np.array([1, 1, 1])
    recorded = record(recording, experiment, logits, labels)
    assert_agree(recorded, logits, labels)
    assert recorded["correct"].tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_non_finite_rows(recording, experiment, dtype):
    random = np.random.default_rng(18)
    logits = random.normal(size=(40, 5))
    broken = {0: np.nan, 7: np.inf, 39: np.nan}
    for row, value in broken.items():
        logits[row, row % 5] = value
    # A NaN with a sign, and a row of nothing else. Minus infinity masks a class out, but not all.
    logits[20] = -np.nan
    logits[13, 3] = -np.inf
    logits[25] = -np.inf
    labels = np.zeros(40, dtype=int)
    if dtype == "bfloat16":
        bits, _ = definitions.bfloat16(np.nan_to_num(logits, posinf=0, neginf=0))
        bits[np.isnan(logits)] = 0x7FC0
        bits[np.isposinf(logits)] = 0x7F80
        bits[np.isneginf(logits)] = 0xFF80
        logits = (bits.astype(np.uint32) << 16).view(np.float32)
        recorded = record(recording, experiment, logits, labels, as_recorded=bits)
    else:
        logits = logits.astype(dtype)
        recorded = record(recording, experiment, logits, labels)
    assert_agree(recorded, logits, labels)
    rows = [*broken, 20, 25]
    for name in ALL_SIGNALS:
        assert np.flatnonzero(np.isnan(recorded[name])).tolist() == sorted(rows), name
    assert not recorded["correct"][rows].any()


def test_tiny_errors_keep_their_relative_precision(recording, experiment):
    # What NumPy's p - y cannot resolve, the exact reference can: easy examples stay in order.
    logits = np.zeros((60, 4), dtype=np.float32)
    logits[:, 1] = np.linspace(1, 80, 60)
    labels = np.ones(60, dtype=int)
    recorded = record(recording, experiment, logits, labels)
    exact = [definitions.signals_exactly(row, label) for row, label in zip(logits, labels)]
    for name in ["el2n", "el1n", "loss", "confidence", "entropy"]:
        expected = np.array([row[name] for row in exact])
        np.testing.assert_allclose(recorded[name], expected, rtol=RELATIVE, err_msg=name)
    assert (np.diff(recorded["el2n"]) < 0).all()


def test_ignored_rows_are_not_recorded(recording, experiment):
    random = np.random.default_rng(19)
    logits = random.normal(size=(12, 3)).astype(np.float32)
    labels = np.array([0, -100, 2, 1] * 3)
    recording.open(experiment, "run", 3, ignore_index=-100, signals=ALL_SIGNALS)
    recording.record("train", np.arange(12), labels, logits, batch_rows=4)
    assert recording.finish()["rows"]["written"] == 9
    kept = labels != -100
    table = parquet.read_table(experiment / "observations")
    assert table["example"].to_pylist() == np.flatnonzero(kept).tolist()
    expected = definitions.signals(logits[kept], definitions.one_hot(labels[kept], 3))
    np.testing.assert_allclose(table["el2n"], expected["el2n"], rtol=RELATIVE)
    stored = parquet.read_table(experiment / "logits")["logits"].to_pylist()
    np.testing.assert_array_equal(np.array(stored, dtype=np.float32), logits[kept])


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([0, 1], [0, 3], "labels: expected class indices in 0..3, got 3 in row 1"),
        ([0, -1], [0, 1], "ids: expected example ids in 0..2, got -1 in row 1"),
        ([0, 2], [0, 1], "ids: expected example ids in 0..2, got 2 in row 1"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_recorded(
    recording, experiment, ids, labels, message
):
    recording.open(experiment, "run", 3, examples=2)
    with pytest.raises(Refused) as refused:
        recording.record("train", ids, labels, np.zeros((2, 3), dtype=np.float32))
    assert message in str(refused.value)
    assert recording.finish()["rows"]["written"] == 0
