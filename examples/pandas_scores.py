#!/usr/bin/env python3
"""EL2N and forgetting from a recorded experiment, straight from its Parquet files, with pandas.

    pip install pandas pyarrow
    python examples/pandas_scores.py runs/digits
    python examples/pandas_scores.py runs/digits --check runs/digits/scores.parquet

All observations are held in memory; `polars_scores.py` does the same in a streaming way. `--check`
compares every number with a table that `data-diet scores` has written.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd


def read(experiment: Path) -> pd.DataFrame:
    """All observations; `run`, `phase` and `rank` come from the directories' names."""
    columns = ["run", "phase", "rank", "step", "epoch", "example", "correct", "el2n"]
    observations = pd.read_parquet(experiment / "observations", columns=columns)
    # pandas makes categories of directory names; as plain values they group without surprises.
    observations = observations.astype({"run": str, "phase": str, "rank": int, "el2n": float})
    # Data loaders repeat examples to make ranks equally long: the first rank's are counted.
    ranks = observations.groupby(["run", "phase", "epoch", "example"])["rank"]
    return observations[observations["rank"] == ranks.transform("min")]


def el2n_per_epoch(observations: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and count over runs of each example's EL2N, per phase and epoch.

    A run's value is the mean of the example's observations in that epoch. NaN marks logits that
    were not finite; pandas leaves such observations out.
    """
    per_run = observations.groupby(["run", "phase", "epoch", "example"])["el2n"].mean()
    return per_run.groupby(["phase", "epoch", "example"]).agg(["mean", "std", "count"])


def forgetting(observations: pd.DataFrame) -> pd.DataFrame:
    """Mean number of forgetting events over runs (Toneva et al. 2018), in both conventions.

    An event is a presentation answered wrongly right after one answered correctly. An example that
    was never answered correctly counts as the number of presentations (`forgetting`), or as
    infinity (`forgetting_inf`, as in the Data Diet code).
    """
    # Rows come in the order in which they were recorded, which a stable sort keeps within a step.
    train = observations[observations["phase"] == "train"].sort_values("step", kind="stable")
    before = train.groupby(["run", "example"])["correct"].shift(fill_value=False)
    train = train.assign(event=before & ~train["correct"])
    per_run = train.groupby(["run", "example"]).agg(
        events=("event", "sum"), learned=("correct", "any"), presentations=("correct", "size")
    )
    # The most of any example, so that one that was shown less often ranks above all others too.
    most = per_run.groupby("run")["presentations"].transform("max")
    events, learned = per_run["events"].astype(float), per_run["learned"]
    scores = pd.DataFrame(
        {
            "forgetting": events.where(learned, most),
            "forgetting_inf": events.where(learned, np.inf),
            "never_learned": ~learned,
        }
    )
    return scores.groupby("example").mean()


def disagreements(path: Path, el2n: pd.DataFrame, forgotten: pd.DataFrame) -> list[str]:
    """What differs from the table that `data-diet scores` wrote, one line per column."""
    scores = pd.read_parquet(path).set_index("example")
    compared, different = 0, []
    for name, theirs in scores.items():
        if match := re.fullmatch(r"el2n_(train|score|held_out)_epoch_(\d+)_(mean|std)", name):
            phase, epoch, statistic = match.groups()
            of_epoch = el2n.reset_index(["phase", "epoch"])
            of_epoch = of_epoch[of_epoch["phase"].eq(phase) & of_epoch["epoch"].eq(int(epoch))]
            ours = of_epoch[statistic]
        elif (score := name.removesuffix("_mean")) in forgotten:
            ours = forgotten[score]
        else:
            continue
        compared += 1
        # What one side lacks becomes NaN, and NaN equals NaN here.
        theirs, ours = theirs.align(ours)
        same = np.isclose(theirs, ours, rtol=0, atol=1e-9, equal_nan=True)
        if not same.all():
            different.append(f"{name}: {(~same).sum()} of {len(same)} examples differ")
    return different if compared else [f"no column of {path} is known"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, help="experiment directory, such as runs/digits")
    parser.add_argument("-n", type=int, default=10, help="how many of the hardest to print [10]")
    parser.add_argument("--check", type=Path, metavar="SCORES", help="compare with scores.parquet")
    arguments = parser.parse_args()

    observations = read(arguments.experiment)
    el2n, forgotten = el2n_per_epoch(observations), forgetting(observations)

    # In the score phase the weights are held still: this is EL2N as the paper computes it.
    phases = el2n.index.unique("phase")
    phase = next(phase for phase in ["score", "train", "held_out"] if phase in phases)
    of_phase = el2n.loc[phase]
    last = of_phase.index.get_level_values("epoch").max()
    hardest = (
        of_phase.loc[last]
        .join(forgotten[["forgetting", "forgetting_inf"]])
        .sort_values(["mean", "example"], ascending=[False, True])
    )
    print(f"{len(hardest)} examples; the hardest by EL2N ({phase} phase, epoch {last}):")
    print(hardest.head(arguments.n).to_string())

    if arguments.check:
        if different := disagreements(arguments.check, el2n, forgotten):
            print(*different, sep="\n", file=sys.stderr)
            return 1
        print(f"agrees with {arguments.check}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
