#!/usr/bin/env python3
"""EL2N and forgetting from a recorded experiment, straight from its Parquet files, with Polars.

    pip install polars
    python examples/polars_scores.py runs/digits
    python examples/polars_scores.py runs/digits --check runs/digits/scores.parquet

The computation is lazy and runs on Polars' streaming engine, so that the observations need not fit
in memory. `pandas_scores.py` does the same with pandas. `--check` compares every number with a table
that `data-diet scores` has written.
"""

import argparse
import re
import sys
from pathlib import Path

import polars as pl


def read(experiment: Path) -> pl.LazyFrame:
    """All observations; `run`, `phase` and `rank` come from the directories' names."""
    # Rows come in the order in which they were recorded: `row` tells which came first in a step.
    observations = pl.scan_parquet(experiment / "observations", row_index_name="row")
    if observations.select(pl.col("rank").n_unique()).collect().item() > 1:
        # Data loaders repeat examples to make ranks equally long: the first rank's are counted.
        first = pl.col("rank").min().over("run", "phase", "epoch", "example")
        observations = observations.filter(pl.col("rank") == first)
    return observations


def el2n_per_epoch(observations: pl.LazyFrame) -> pl.LazyFrame:
    """Mean, standard deviation and count over runs of each example's EL2N, per phase and epoch.

    A run's value is the mean of the example's observations in that epoch. NaN marks logits that
    were not finite; such observations are left out.
    """
    el2n = pl.col("el2n").cast(pl.Float64)
    return (
        observations.filter(pl.col("el2n").is_not_nan())
        .group_by("run", "phase", "epoch", "example")
        .agg(el2n.mean())
        .group_by("phase", "epoch", "example")
        .agg(mean=pl.col("el2n").mean(), std=pl.col("el2n").std(), count=pl.len())
    )


def forgetting(observations: pl.LazyFrame) -> pl.LazyFrame:
    """Mean number of forgetting events over runs (Toneva et al. 2018), in both conventions.

    An event is a presentation answered wrongly right after one answered correctly. An example that
    was never answered correctly counts as the number of presentations (`forgetting`), or as
    infinity (`forgetting_inf`, as in the Data Diet code).
    """
    presentations = pl.col("correct").sort_by("step", "row")
    per_run = (
        observations.filter(pl.col("phase") == "train")
        .group_by("run", "example")
        .agg(
            events=(presentations.shift(1) & ~presentations).sum().cast(pl.Float64),
            learned=pl.col("correct").any(),
            presentations=pl.len(),
        )
        # The most of any example, so that one that was shown less often ranks above all others too.
        .with_columns(most=pl.col("presentations").max().over("run").cast(pl.Float64))
    )
    events = pl.when("learned").then("events")
    return per_run.group_by("example").agg(
        forgetting=events.otherwise("most").mean(),
        forgetting_inf=events.otherwise(float("inf")).mean(),
        never_learned=(~pl.col("learned")).mean(),
    )


def disagreements(path: Path, el2n: pl.DataFrame, forgotten: pl.DataFrame) -> list[str]:
    """What differs from the table that `data-diet scores` wrote, one line per column."""
    scores = pl.read_parquet(path)
    compared, different = 0, []
    for name in scores.columns:
        if match := re.fullmatch(r"el2n_(train|score|held_out)_epoch_(\d+)_(mean|std)", name):
            phase, epoch, statistic = match.groups()
            of_epoch = (pl.col("phase") == phase) & (pl.col("epoch") == int(epoch))
            ours = el2n.filter(of_epoch).select("example", ours=statistic)
        elif (score := name.removesuffix("_mean")) in forgotten.columns and score != "example":
            ours = forgotten.select("example", ours=score)
        else:
            continue
        compared += 1
        # What one side lacks is NaN, and NaN equals NaN here.
        theirs = scores.select("example", theirs=name)
        both = theirs.join(ours, on="example", how="full").fill_null(float("nan"))
        difference = (pl.col("theirs") - pl.col("ours")).abs()
        same = (pl.col("theirs") == pl.col("ours")) | (difference < 1e-9)
        if rows := both.filter(~same).height:
            different.append(f"{name}: {rows} of {both.height} examples differ")
    return different if compared else [f"no column of {path} is known"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, help="experiment directory, such as runs/digits")
    parser.add_argument("-n", type=int, default=10, help="how many of the hardest to print [10]")
    parser.add_argument("--check", type=Path, metavar="SCORES", help="compare with scores.parquet")
    arguments = parser.parse_args()

    observations = read(arguments.experiment)
    el2n, forgotten = pl.collect_all(
        [el2n_per_epoch(observations), forgetting(observations)], engine="streaming"
    )

    # In the score phase the weights are held still: this is EL2N as the paper computes it.
    phase = next(phase for phase in ["score", "train", "held_out"] if phase in el2n["phase"])
    last = el2n.filter(pl.col("phase") == phase)["epoch"].max()
    hardest = (
        el2n.filter(pl.col("phase") == phase, pl.col("epoch") == last)
        .join(forgotten, on="example", how="left")
        .sort("mean", "example", descending=[True, False])
        .select("example", "mean", "std", "count", "forgetting", "forgetting_inf")
    )
    print(f"{hardest.height} examples; the hardest by EL2N ({phase} phase, epoch {last}):")
    with pl.Config(tbl_rows=arguments.n, tbl_hide_dataframe_shape=True):
        print(hardest.head(arguments.n))

    if arguments.check:
        if different := disagreements(arguments.check, el2n, forgotten):
            print(*different, sep="\n", file=sys.stderr)
            return 1
        print(f"agrees with {arguments.check}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
