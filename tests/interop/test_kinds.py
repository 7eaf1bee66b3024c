"""Kinds of models other than `classes`: every signal against its formula in NumPy float64."""

import definitions
import numpy as np
import pyarrow.parquet as parquet
import pytest
from recording import ALL_SIGNALS, Refused

# Rounding to float32, and that of the means and sums before.
RELATIVE = 1e-6
ABSOLUTE = 1e-9


def record(recording, experiment, kind, outputs, ids, targets, logits, signals, **options):
    record_options = {name: options.pop(name) for name in ("tokens", "packed") if name in options}
    recording.open(experiment, "run", outputs, kind=kind, signals=signals, logits="off", **options)
    recording.record("train", ids, targets, logits, **record_options)
    report = recording.finish()
    assert report["status"] == "finished", report
    return parquet.read_table(experiment / "observations")


def assert_column(table, name, expected):
    np.testing.assert_allclose(
        table[name].to_numpy(), expected, rtol=RELATIVE, atol=ABSOLUTE, err_msg=name
    )


def sequences(logits, labels, vocabulary):
    """Each signal of a sequence is the mean over its counted tokens, those whose label is not -100."""
    rows = []
    for sequence, targets in zip(logits, labels):
        counted = targets != -100
        if not counted.any():
            continue
        tokens = definitions.signals(
            sequence[counted], definitions.one_hot(targets[counted], vocabulary)
        )
        row = {name: tokens[name].mean() for name in ALL_SIGNALS}
        row["accuracy"] = tokens["correct"].mean()
        row["correct"] = tokens["correct"].all()
        row["tokens"] = counted.sum()
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def assert_sequences(table, expected):
    for name in [*ALL_SIGNALS, "accuracy"]:
        assert_column(table, name, expected[name])
    for name in ["tokens", "correct"]:
        np.testing.assert_array_equal(table[name].to_numpy(), expected[name])
    assert set(table["label"].to_pylist()) == {-1}
    assert "logits" not in table.column_names


def token_batch(seed, batch, tokens, vocabulary):
    random = np.random.default_rng(seed)
    logits = (3 * random.normal(size=(batch, tokens, vocabulary))).astype(np.float32)
    labels = random.integers(vocabulary, size=(batch, tokens))
    # Half of the answers right, a prompt, padding, and one sequence of padding alone.
    labels[::2] = logits[::2].argmax(axis=2)
    labels[:, :2] = -100
    for row, length in enumerate(random.integers(3, tokens + 1, size=batch)):
        labels[row, length:] = -100
    labels[1] = -100
    return logits, labels


@pytest.mark.parametrize("vocabulary", [2, 50, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tokens(recording, experiment, vocabulary, dtype):
    logits, labels = token_batch(vocabulary, 7, 9, vocabulary)
    given, exact = logits, logits.astype(np.float64)
    if dtype == "float16":
        given = logits.astype(np.float16)
        exact = given.astype(np.float64)
    elif dtype == "bfloat16":
        given, exact = definitions.bfloat16(logits)
    table = record(
        recording, experiment, "tokens", vocabulary, np.arange(7), labels, given, ALL_SIGNALS,
        tokens=9, ignore_index=-100,
    )
    assert table["example"].to_pylist() == [0, 2, 3, 4, 5, 6]
    assert_sequences(table, sequences(exact, labels, vocabulary))


def test_packed_sequences(recording, experiment):
    vocabulary, tokens = 20, 12
    logits, labels = token_batch(3, 4, tokens, vocabulary)
    labels[1] = logits[1].argmax(axis=1)
    labels[labels == -100] = 5
    # Three sequences in each row: 4, 5 and 3 tokens, the last of which is padding with any id.
    ids = np.repeat(np.arange(12).reshape(4, 3), 4, axis=1)
    ids[:, 8] = ids[:, 7]
    ids[:, -1] = 999
    labels[:, -1] = -100
    table = record(
        recording, experiment, "tokens", vocabulary, ids.ravel(), labels, logits, ALL_SIGNALS,
        tokens=tokens, packed=True, ignore_index=-100,
    )
    assert table["example"].to_pylist() == list(range(12))
    assert table["tokens"].to_pylist() == [4, 5, 2] * 4
    rows = [slice(0, 4), slice(4, 9), slice(9, 12)]
    padded_logits = np.zeros((12, 5, vocabulary))
    padded_labels = np.full((12, 5), -100)
    for at in range(12):
        row, place = divmod(at, 3)
        length = rows[place].stop - rows[place].start
        padded_logits[at, :length] = logits[row, rows[place]]
        padded_labels[at, :length] = labels[row, rows[place]]
    assert_sequences(table, sequences(padded_logits, padded_labels, vocabulary))


@pytest.mark.parametrize("soft", [False, True])
def test_binary_is_two_classes(recording, experiment, soft):
    random = np.random.default_rng(4)
    logits = (4 * random.normal(size=(200, 1))).astype(np.float32)
    targets = random.random((200, 1)).astype(np.float32) if soft else random.integers(2, size=200)
    table = record(
        recording, experiment, "binary", 1, np.arange(200), targets, logits, ALL_SIGNALS
    )
    positive = np.float32(targets).reshape(200).astype(np.float64)
    two = np.concatenate([np.zeros((200, 1)), logits.astype(np.float64)], axis=1)
    expected = definitions.signals(two, np.stack([1 - positive, positive], axis=1))
    for name in ALL_SIGNALS:
        assert_column(table, name, expected[name])
    np.testing.assert_array_equal(table["correct"].to_numpy(), expected["correct"])
    np.testing.assert_array_equal(table["label"].to_numpy(), positive >= 0.5)


def test_several_labels(recording, experiment):
    random = np.random.default_rng(5)
    z = (3 * random.normal(size=(150, 6))).astype(np.float32)
    y = random.integers(2, size=(150, 6)).astype(np.float32)
    y[::3] = random.random((50, 6))
    y[1::3] = z[1::3] > 0
    table = record(
        recording, experiment, "multi_label", 6, np.arange(150), y, z, ["el2n", "loss", "margin"]
    )
    z, y = z.astype(np.float64), y.astype(np.float64)
    p = 1 / (1 + np.exp(-z))
    assert_column(table, "el2n", np.sqrt(((p - y) ** 2).sum(axis=1)))
    assert_column(table, "loss", -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1))
    assert_column(table, "margin", ((2 * y - 1) * z).min(axis=1))
    right = ((z > 0) == (y >= 0.5)).all(axis=1)
    np.testing.assert_array_equal(table["correct"].to_numpy(), right)
    assert right[1::3].all() and not right.all()


def test_regression(recording, experiment):
    random = np.random.default_rng(6)
    z, y = (random.normal(size=(80, 3)).astype(np.float32) for _ in range(2))
    table = record(recording, experiment, "regression", 3, np.arange(80), y, z, ["el2n", "loss"])
    norms = np.sqrt(((z.astype(np.float64) - y) ** 2).sum(axis=1))
    assert_column(table, "el2n", norms)
    assert_column(table, "loss", norms**2 / 2)
    assert "correct" not in table.column_names


def test_targets_outside_their_range(recording, experiment):
    logits = np.zeros((2, 1), dtype=np.float32)
    recording.open(experiment, "run", 1, kind="binary")
    with pytest.raises(Refused, match="labels: expected targets in 0 to 1, got 1.5 in row 1"):
        recording.record("train", [0, 1], np.float32([[0.5], [1.5]]), logits)
    assert recording.finish()["rows"]["written"] == 0
