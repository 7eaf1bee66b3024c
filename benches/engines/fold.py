"""Folding observations into scores: `data-diet scores` beside DuckDB and Polars.

    cargo build --release --features cli --bin data-diet
    cargo bench --features cli --bench scores -- \\
        --record runs/fold --examples 1000000 --epochs 100
    python benches/engines/fold.py runs/fold

Needs duckdb, polars and numpy (tests/interop/requirements.txt). Each engine reads the same directory,
computes the same columns and writes them as zstd-compressed Parquet, each in a process of its own with
as many threads as the machine has; Python's start and imports are in the figures of DuckDB and Polars,
and the line `imports` says how much that is. Before anything is measured, the results are compared.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import TARGET, in_turn, table

OURS = "data-diet"
CASES = ("el2n", "aum", "forgetting", "standard")

OPTIONS = {
    "el2n": ["--score", "el2n"],
    "aum": ["--score", "aum"],
    "forgetting": ["--score", "forgetting", "--score", "never_learned"],
    "standard": [],
}


def last_epoch(experiment: Path) -> int:
    import duckdb

    files = f"{experiment}/observations/**/*.parquet"
    return duckdb.sql(f"SELECT max(epoch) FROM read_parquet('{files}')").fetchall()[0][0]


# Values per run, then their mean, deviation and count over runs, as in `scores.parquet`.


def by_duckdb(case: str, experiment: Path, output: Path, last: int) -> None:
    import duckdb

    def over_runs(names, per_run):
        columns = ", ".join(
            f"avg({name}) AS {name}_mean, stddev_samp({name}) AS {name}_std, "
            f"count({name})::INTEGER AS {name}_count"
            for name in names
        )
        return f"SELECT example, {columns} FROM ({per_run}) GROUP BY example"

    observations = f"read_parquet('{experiment}/observations/**/*.parquet', hive_partitioning=true)"
    train = f"(SELECT * FROM {observations} WHERE phase = 'train')"
    mean = "avg({0}::DOUBLE) FILTER (NOT isnan({0}))"
    el2n = over_runs(
        ["el2n"],
        f"SELECT run, example, {mean.format('el2n')} AS el2n FROM {train} "
        f"WHERE epoch = {last} GROUP BY ALL",
    )
    aum = over_runs(
        ["aum"],
        f"SELECT run, example, {mean.format('margin')} AS aum FROM {train} GROUP BY ALL",
    )
    histories = (
        "SELECT run, example, correct, lag(correct) OVER "
        f"(PARTITION BY run, example ORDER BY step) AS before, step FROM {train}"
    )
    counters = (
        "SELECT run, example, count(*) AS presentations, "
        "count(*) FILTER (before AND NOT correct) AS events, bool_or(correct) AS learned, "
        "min(row) FILTER (correct) AS first_learned FROM (SELECT *, row_number() OVER "
        f"(PARTITION BY run, example ORDER BY step) - 1 AS row FROM ({histories})) GROUP BY ALL"
        if case == "standard"
        else "SELECT run, example, count(*) AS presentations, "
        "count(*) FILTER (before AND NOT correct) AS events, bool_or(correct) AS learned "
        f"FROM ({histories}) GROUP BY ALL"
    )
    forgetting_of_runs = (
        "SELECT *, CASE WHEN learned THEN events ELSE max(presentations) OVER (PARTITION BY run) "
        "END AS forgetting, (NOT learned)::INTEGER AS never_learned, CASE WHEN learned THEN "
        f"events::DOUBLE ELSE 'inf'::DOUBLE END AS forgetting_inf FROM ({counters})"
    )
    forgetting = over_runs(["forgetting", "never_learned"], forgetting_of_runs)
    if case == "standard":
        of_epochs = ", ".join(
            f"avg(el2n::DOUBLE) FILTER (epoch = {epoch} AND NOT isnan(el2n)) "
            f"AS el2n_train_epoch_{epoch}"
            for epoch in range(last + 1)
        )
        names = [f"el2n_train_epoch_{epoch}" for epoch in range(last + 1)]
        epochs = over_runs(
            [*names, "aum"],
            f"SELECT run, example, {of_epochs}, {mean.format('margin')} AS aum "
            f"FROM {train} GROUP BY ALL",
        )
        counted = ["forgetting", "never_learned", "presentations", "first_learned"]
        infinite = "avg(forgetting_inf) AS forgetting_inf_mean, FROM"
        rest = over_runs(counted, forgetting_of_runs).replace(" FROM", f", {infinite}", 1)
        query = f"SELECT * FROM ({epochs}) JOIN ({rest}) USING (example)"
    else:
        query = {"el2n": el2n, "aum": aum, "forgetting": forgetting}[case]
    duckdb.sql(
        f"COPY ({query} ORDER BY example) TO '{output}' (FORMAT parquet, COMPRESSION zstd)"
    )


def by_polars(case: str, experiment: Path, output: Path, last: int) -> None:
    import polars as pl

    train = pl.scan_parquet(experiment / "observations").filter(pl.col("phase") == "train")

    def mean(column):
        return pl.col(column).filter(pl.col(column).is_not_nan()).cast(pl.Float64).mean()

    def over_runs(names, per_run):
        return per_run.group_by("example").agg(
            column
            for name in names
            for column in (
                pl.col(name).mean().alias(f"{name}_mean"),
                pl.col(name).std().alias(f"{name}_std"),
                pl.col(name).count().cast(pl.Int32).alias(f"{name}_count"),
            )
        )

    runs = train.group_by("run", "example")
    correct = pl.col("correct").sort_by("step")
    before = correct.shift(1, fill_value=False)
    counters = runs.agg(
        presentations=pl.len(),
        events=(before & ~correct).sum(),
        learned=pl.col("correct").any(),
        **({"first_learned": correct.arg_max()} if case == "standard" else {}),
    )
    learned, events = pl.col("learned"), pl.col("events").cast(pl.Float64)
    forgetting_of_runs = counters.with_columns(
        forgetting=pl.when(learned)
        .then(events)
        .otherwise(pl.col("presentations").max().over("run")),
        never_learned=(~learned).cast(pl.Int32),
        forgetting_inf=pl.when(learned).then(events).otherwise(float("inf")),
    )
    if case == "standard":
        names = [f"el2n_train_epoch_{epoch}" for epoch in range(last + 1)]
        of_epoch = (
            pl.col("el2n")
            .filter((pl.col("epoch") == epoch) & pl.col("el2n").is_not_nan())
            .cast(pl.Float64)
            .mean()
            .alias(name)
            for epoch, name in enumerate(names)
        )
        epochs = over_runs([*names, "aum"], runs.agg(*of_epoch, aum=mean("margin")))
        counted = ["forgetting", "never_learned", "presentations", "first_learned"]
        first = pl.when(learned).then("first_learned").alias("first_learned")
        rest = over_runs([*counted, "forgetting_inf"], forgetting_of_runs.with_columns(first))
        result = epochs.join(rest, on="example")
    elif case == "forgetting":
        result = over_runs(["forgetting", "never_learned"], forgetting_of_runs)
    elif case == "aum":
        result = over_runs(["aum"], runs.agg(aum=mean("margin")))
    else:
        of_epoch = train.filter(pl.col("epoch") == last).group_by("run", "example")
        result = over_runs(["el2n"], of_epoch.agg(el2n=mean("el2n")))
    result.sort("example").sink_parquet(output, compression="zstd", engine="streaming")


ENGINES = {"duckdb": by_duckdb, "polars": by_polars}


def command(engine: str, case: str, experiment: Path, output: Path, last: int) -> list[str]:
    if engine == OURS:
        binary = TARGET / "release" / "data-diet"
        return [str(binary), "scores", str(experiment), *OPTIONS[case], "-o", str(output)]
    return [sys.executable, __file__, str(experiment), "--run", engine, case, str(output), str(last)]


def assert_equal(case: str, ours: Path, theirs: Path) -> None:
    """Every column of theirs is in ours and holds the same numbers."""
    import numpy as np
    import polars as pl

    names = pl.scan_parquet(theirs).collect_schema().names()
    for name in names:
        a, b = (pl.read_parquet(path, columns=[name])[name] for path in (ours, theirs))
        a, b = (column.cast(pl.Float64).fill_null(np.nan).to_numpy() for column in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-12, err_msg=f"{case}: {name} of {theirs.name}")
    print(f"{case}: {len(names)} columns of {theirs.stem} agree", file=sys.stderr)


def by_itself(experiment: Path, *arguments: str) -> str:
    """Calls this script. What is imported there adds nothing to the memory of what is measured here: a
    process starts with the peak of the one that started it."""
    call = [sys.executable, __file__, str(experiment), *arguments]
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--cases", default=",".join(CASES), help="some of them, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--last-epoch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        engine, case, output, last = arguments.run
        ENGINES[engine](case, arguments.experiment, Path(output), int(last))
    elif arguments.compare:
        case, ours, theirs = arguments.compare
        assert_equal(case, Path(ours), Path(theirs))
    elif arguments.last_epoch:
        print(last_epoch(arguments.experiment))
    else:
        measure(arguments.experiment, arguments.cases.split(","), arguments.rounds)


def measure(experiment: Path, cases: list[str], rounds: int) -> None:
    last = int(by_itself(experiment, "--last-epoch"))
    with tempfile.TemporaryDirectory(dir=experiment.parent) as directory:
        for case in cases:
            outputs = {engine: Path(directory) / f"{engine}.parquet" for engine in (OURS, *ENGINES)}
            commands = {
                engine: command(engine, case, experiment, output, last)
                for engine, output in outputs.items()
            }
            for each in commands.values():
                subprocess.run(each, check=True, stderr=subprocess.DEVNULL)
            for engine in ENGINES:
                compared = (case, str(outputs[OURS]), str(outputs[engine]))
                by_itself(experiment, "--compare", *compared)
            if case == "el2n":
                for engine in ENGINES:
                    commands[f"{engine}, imports"] = [sys.executable, "-c", f"import {engine}"]
            commands = {engine: quietly(each) for engine, each in commands.items()}
            results = in_turn(commands, rounds)
            table(f"{case}, medians of {rounds}", results, OURS)


def quietly(command: list[str]) -> list[str]:
    """The same command without a line on standard error for every round."""
    return ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *command]


if __name__ == "__main__":
    main()
