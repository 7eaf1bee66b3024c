"""`examples/label_errors.py`: held-out predictions from k runs over k folds, handed to cleanlab."""

import subprocess
import sys

import numpy as np
import polars as pl
from recording import REPOSITORY, data_diet

EXAMPLES, CLASSES, FOLDS, EPOCHS = 200, 4, 4, 3


def test_mislabeled_examples_are_found(recording, experiment, tmp_path):
    random = np.random.default_rng(0)
    ids = np.arange(EXAMPLES)
    truth = random.integers(CLASSES, size=EXAMPLES)
    labels = truth.copy()
    noisy = random.choice(EXAMPLES, 20, replace=False)
    labels[noisy] = (labels[noisy] + random.integers(1, CLASSES, size=20)) % CLASSES

    def logits(examples, toward, strength):
        values = random.normal(size=(len(examples), CLASSES))
        values[np.arange(len(examples)), toward[examples]] += strength
        return values.astype(np.float32)

    for fold in range(FOLDS):
        held_out = ids[ids % FOLDS == fold]
        trained = ids[ids % FOLDS != fold]
        recording.open(experiment, f"fold-{fold}", CLASSES)
        for epoch in range(EPOCHS):
            # The network learns what is true first, and the wrong labels by heart later.
            shown = logits(trained, truth, 3) + epoch * logits(trained, labels, 1)
            recording.record("train", trained, labels[trained], shown, epoch=epoch)
            predicted = logits(held_out, truth, 1 + epoch)
            recording.record("held_out", held_out, labels[held_out], predicted, epoch=epoch + 1)
        assert recording.finish()["status"] == "finished"

    scores, known = tmp_path / "scores.parquet", tmp_path / "noisy.csv"
    data_diet("scores", experiment, "-o", scores)
    pl.DataFrame({"example": noisy}).write_csv(known)
    script = REPOSITORY / "examples" / "label_errors.py"
    done = subprocess.run(
        [sys.executable, script, experiment, "--scores", scores, "--noisy", known],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{EXAMPLES} examples with held-out predictions" in done.stdout
    areas = {}
    for line in done.stdout.splitlines():
        name, *value = line.split()[:2] if line.startswith("  ") else [""]
        if name in ("cleanlab", "el2n", "aum", "forgetting"):
            areas[name] = float(value[0])
    assert set(areas) == {"cleanlab", "el2n", "aum", "forgetting"}, done.stdout
    # By hand: how often a mislabeled example has the lower probability of its label.
    table = pl.read_parquet(experiment / "logits", hive_partitioning=True)
    last = table.filter(pl.col("phase") == "held_out", pl.col("epoch") == EPOCHS).sort("example")
    z = np.stack(last["logits"].to_list()).astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    quality = p[ids, labels]
    wrong = np.isin(ids, noisy)
    pairs = quality[wrong][:, None] < quality[~wrong][None, :]
    assert abs(areas["cleanlab"] - pairs.mean()) < 6e-4, (areas, pairs.mean())
    assert areas["cleanlab"] > 0.9 and areas["aum"] > 0.9, areas
