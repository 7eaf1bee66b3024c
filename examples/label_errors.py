#!/usr/bin/env python3
"""Examples that are probably mislabeled, by cleanlab, from held-out predictions.

    pip install polars cleanlab
    python examples/label_errors.py runs/digits
    python examples/label_errors.py runs/digits --scores scores.parquet --noisy noisy.csv

The runs hold out one fold each (`hook.on_held_out_batch`), so that every example has a prediction of a
network that has not seen its label. Confident learning (Northcutt et al. 2021) compares these predictions
with the labels. `--scores` sets its ranking beside those of EL2N, AUM and forgetting, and `--noisy`, a CSV
with the ids of the examples that are known to be mislabeled in its column `example`, says how well each
finds them: the area under the ROC curve.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores


def predictions(experiment: Path) -> pl.DataFrame:
    """The held-out logits of each example, from the last epoch in which its run has recorded them."""
    logits = pl.scan_parquet(experiment / "logits").filter(pl.col("phase") == "held_out")
    if "classes" in logits.collect_schema().names():
        raise SystemExit("the highest logits are no prediction of all classes: record them whole")
    last = logits.filter(pl.col("epoch") == pl.col("epoch").max().over("run"))
    return last.select("run", "example", "label", "logits").collect().sort("example", "run")


def probabilities(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, labels and probabilities: the mean of an example's predictions if several runs held it out."""
    logits = np.stack(rows["logits"].to_list()).astype(np.float64)
    terms = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = terms / terms.sum(axis=1, keepdims=True)
    ids, first, place = np.unique(rows["example"].to_numpy(), return_index=True, return_inverse=True)
    mean = np.zeros((len(ids), p.shape[1]))
    np.add.at(mean, place, p)
    return ids, rows["label"].to_numpy()[first], mean / mean.sum(axis=1, keepdims=True)


def area_under_curve(suspicion: np.ndarray, noisy: np.ndarray) -> float:
    """The probability that a mislabeled example is more suspicious than another; ties count half."""
    order = suspicion.argsort(kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    _, place = np.unique(suspicion, return_inverse=True)
    ranks = (np.bincount(place, weights=ranks) / np.bincount(place))[place]
    positives = noisy.sum()
    negatives = len(noisy) - positives
    return (ranks[noisy].sum() - positives * (positives + 1) / 2) / (positives * negatives)


def rankings(ids: np.ndarray, quality: np.ndarray, scores: Path | None) -> dict[str, np.ndarray]:
    """How suspicious each example is, higher is more, by each method."""
    by_method = {"cleanlab": -quality}
    if scores is None:
        return by_method
    table = pl.read_parquet(scores)
    table = pl.DataFrame({"example": ids}).join(table, on="example", how="left", maintain_order="left")
    for name, sign in [("el2n", 1), ("aum", -1), ("forgetting", 1)]:
        if f"{name}_mean" in table.columns:
            by_method[name] = sign * table[f"{name}_mean"].fill_null(np.nan).to_numpy()
    return by_method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--scores", type=Path, help="a table that `data-diet scores` has written")
    parser.add_argument("--noisy", type=Path, help="a CSV with a column `example` of mislabeled ids")
    parser.add_argument("--show", type=int, default=10, help="how many examples to list [10]")
    arguments = parser.parse_args()

    rows = predictions(arguments.experiment)
    if rows.is_empty():
        raise SystemExit("no held-out predictions: see `on_held_out_batch` of the hook")
    ids, labels, p = probabilities(rows)
    quality = get_label_quality_scores(labels, p)
    issues = find_label_issues(labels, p, return_indices_ranked_by="self_confidence")
    print(f"{len(ids)} examples with held-out predictions, {len(issues)} probably mislabeled")
    for at in issues[: arguments.show]:
        likely = p[at].argmax()
        print(f"  example {ids[at]}: label {labels[at]}, predicted {likely} ({p[at, likely]:.2f})")

    if arguments.noisy is not None:
        known = pl.read_csv(arguments.noisy)["example"].to_numpy()
        noisy = np.isin(ids, known)
        if not 0 < noisy.sum() < len(noisy):
            raise SystemExit("--noisy: expected some of the examples, and not all")
        print(f"\narea under the ROC curve for finding the {noisy.sum()} mislabeled examples")
        for name, suspicion in rankings(ids, quality, arguments.scores).items():
            known = ~np.isnan(suspicion)
            print(f"  {name:<12} {area_under_curve(suspicion[known], noisy[known]):.3f}")


if __name__ == "__main__":
    main()
