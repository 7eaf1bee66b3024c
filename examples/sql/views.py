#!/usr/bin/env python3
"""The scores of a recorded experiment as SQL views, on DuckDB, Polars or Spark.

    pip install duckdb                       # or polars, or pyspark
    python examples/sql/views.py runs/digits --engine duckdb
    python examples/sql/views.py runs/digits --engine polars --check scores.parquet
    spark-submit --conf spark.sql.shuffle.partitions=2 examples/sql/views.py runs/digits --engine spark

The views are the numbered files beside this one, the same text for all engines. What is an engine's
own is here: how it reads the directory into `observations`. `--check` compares every number with a table
that `data-diet scores` has written. Spark's 200 shuffle partitions are for large data: a small experiment
on one machine takes minutes with them and seconds with 2.
"""

import argparse
import math
import sys
from pathlib import Path

VIEWS = sorted(Path(__file__).resolve().parent.glob("[0-9]_*.sql"))
GRAND_SCORES = Path(__file__).with_name("grand_scores.sql")
SIGNALS = ["el2n", "loss", "margin", "el1n", "confidence", "entropy"]


class DuckDB:
    def __init__(self, experiment: Path):
        import duckdb

        self.connection = duckdb.connect()
        self.connection.execute("SET VARIABLE experiment = ?", [str(experiment)])
        self.connection.execute(Path(__file__).with_name("duckdb.sql").read_text())

    def gradients(self, grand: Path):
        self.view(
            "gradients",
            f"""
            SELECT run, rank, epoch, example, CASE WHEN isfinite(grand) OR isinf(grand) THEN grand::DOUBLE END AS grand
            FROM read_parquet('{str(grand).replace("'", "''")}/**/*.parquet',
                hive_partitioning = true, hive_types = {{'run': VARCHAR, 'rank': BIGINT}})
            """,
        )

    def view(self, name: str, sql: str):
        self.connection.execute(f"CREATE VIEW {name} AS {sql}")

    def rows(self, sql: str) -> list[tuple]:
        return self.connection.execute(sql).fetchall()

    def table(self, path: Path) -> tuple[list[str], list[tuple]]:
        table = self.connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        return [column[0] for column in table.description], table.fetchall()


class Polars:
    def __init__(self, experiment: Path):
        import polars as pl

        self.pl = pl
        # All columns by name, since runs may differ in the signals that they record.
        kinds = {"step": pl.Int64, "epoch": pl.Int32, "example": pl.Int64, "label": pl.Int32}
        kinds |= {"correct": pl.Boolean} | dict.fromkeys(SIGNALS, pl.Float32)
        partitions = {"run": pl.String, "phase": pl.String, "rank": pl.Int64}
        observations = pl.scan_parquet(
            experiment / "observations",
            schema=kinds,
            hive_schema=partitions,
            missing_columns="insert",
            # Parts are read in the order of their names, rows in that of the recording.
            row_index_name="position",
        )
        signals = pl.col(SIGNALS).cast(pl.Float64).fill_nan(None)
        self.context = pl.SQLContext(observations=observations.with_columns(signals))

    def gradients(self, grand: Path):
        partitions = {"run": self.pl.String, "rank": self.pl.Int64}
        rows = self.pl.scan_parquet(grand, hive_schema=partitions)
        norms = self.pl.col("grand").cast(self.pl.Float64).fill_nan(None)
        self.context.register("gradients", rows.with_columns(norms))

    def view(self, name: str, sql: str):
        self.context.register(name, self.context.execute(sql))

    def rows(self, sql: str) -> list[tuple]:
        return self.context.execute(sql).collect().rows()

    def table(self, path: Path) -> tuple[list[str], list[tuple]]:
        table = self.pl.read_parquet(path)
        return table.columns, table.rows()


class Spark:
    def __init__(self, experiment: Path):
        from pyspark.sql import SparkSession

        self.session = SparkSession.builder.appName("data-diet").getOrCreate()
        # Runs may differ in the signals that they record.
        parts = self.session.read.option("mergeSchema", "true")
        parts = parts.parquet(str(experiment / "observations"))
        signal = "CASE WHEN NOT isnan({0}) THEN CAST({0} AS DOUBLE) END AS {0}"
        signals = [
            signal.format(name) if name in parts.columns else f"CAST(NULL AS DOUBLE) AS {name}"
            for name in SIGNALS
        ]
        # Rows of a part lie in the order of the recording, parts in that of their numbers.
        position = (
            r"CAST(regexp_extract(_metadata.file_name, '(\\d+)', 1) AS BIGINT) * 4294967296"
            " + _metadata.row_index AS position"
        )
        columns = ["run", "phase", "rank", "step", "epoch", "example", "label", "correct"]
        parts.selectExpr(*columns, position, *signals).createOrReplaceTempView("observations")

    def gradients(self, grand: Path):
        norm = "CASE WHEN NOT isnan(grand) THEN CAST(grand AS DOUBLE) END AS grand"
        rows = self.session.read.parquet(str(grand))
        rows.selectExpr("run", "rank", "epoch", "example", norm).createOrReplaceTempView("gradients")

    def view(self, name: str, sql: str):
        self.session.sql(sql).createOrReplaceTempView(name)
        if name in ("epoch_values", "histories", "scores"):
            # Several views read these; without a cache each would read the files again.
            self.session.catalog.cacheTable(name)

    def rows(self, sql: str) -> list[tuple]:
        return [tuple(row) for row in self.session.sql(sql).collect()]

    def table(self, path: Path) -> tuple[list[str], list[tuple]]:
        table = self.session.read.parquet(str(path))
        return table.columns, [tuple(row) for row in table.collect()]


ENGINES = {"duckdb": DuckDB, "polars": Polars, "spark": Spark}


def create_views(engine):
    """Creates the views in the order of their numbers, under their names."""
    for path in VIEWS:
        engine.view(path.stem.partition("_")[2], path.read_text())


def create_grand_scores(engine, experiment: Path) -> bool:
    """Creates the view of GraNd, if the experiment has recorded any, and tells whether it has."""
    grand = experiment / "grand"
    if not grand.exists():
        return False
    engine.gradients(grand)
    engine.view("grand_scores", GRAND_SCORES.read_text())
    return True


def same(ours, theirs) -> bool:
    """Whether two numbers agree; what is NULL here is NaN there."""
    ours, theirs = (math.nan if value is None else float(value) for value in (ours, theirs))
    close = math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    return close or (math.isnan(ours) and math.isnan(theirs))


def disagreements(engine, path: Path, view_names=("scores",)) -> list[str]:
    """What differs from the table that `data-diet scores` wrote, one line per column."""
    scores = {}
    ours = [f"SELECT score, example, mean, std, count FROM {name}" for name in view_names]
    for score, example, *statistics in engine.rows(" UNION ALL ".join(ours)):
        scores.setdefault(score, {})[example] = statistics
    columns, rows = engine.table(path)
    places = {name: place for place, name in enumerate(columns)}
    names = [name.removesuffix("_mean") for name in columns if name.endswith("_mean")]
    known = [name for name in names if name in scores]
    different = [f"{name}: not known here" for name in names if name not in scores]
    for name in known:
        theirs = {row[places["example"]]: row for row in rows}
        for at, statistic in enumerate(["mean", "std", "count"]):
            place = places[f"{name}_{statistic}"]
            nothing = 0 if statistic == "count" else None
            wrong = 0
            for example in theirs.keys() | scores[name].keys():
                ours = scores[name][example][at] if example in scores[name] else nothing
                wrong += example not in theirs or not same(ours, theirs[example][place])
            if wrong:
                different.append(f"{name}_{statistic}: {wrong} of {len(theirs)} examples differ")
    return different if known else [f"no column of {path} is known"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, help="experiment directory, such as runs/digits")
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--score", default="el2n", help="the score to print by [el2n]")
    parser.add_argument("-n", type=int, default=10, help="how many of the highest to print [10]")
    parser.add_argument("--check", type=Path, metavar="SCORES", help="compare with scores.parquet")
    arguments = parser.parse_args()

    engine = ENGINES[arguments.engine](arguments.experiment)
    create_views(engine)
    view_names = ["scores"]
    if create_grand_scores(engine, arguments.experiment):
        view_names.append("grand_scores")
    name = arguments.score.replace("'", "''")
    highest = engine.rows(
        f"""
        SELECT example, mean, std, count FROM scores WHERE score = '{name}'
        ORDER BY mean DESC, example LIMIT {arguments.n}
        """
    )
    if not highest:
        names = engine.rows("SELECT DISTINCT score FROM scores ORDER BY score")
        names = ", ".join(score for (score,) in names)
        print(f"no score `{arguments.score}`; there are: {names}", file=sys.stderr)
        return 1
    print(f"the highest by {arguments.score}: example, mean, standard deviation and count over runs")
    for example, mean, std, count in highest:
        std = "-" if std is None else f"{std:.4f}"
        print(f"{example:>20} {mean:>9.4f} {std:>9} {count:>4}")
    ((kept,),) = engine.rows("SELECT COUNT(*) AS kept FROM selection")
    print(f"the example selection (8_selection.sql) keeps {kept} examples")

    if arguments.check:
        if different := disagreements(engine, arguments.check, view_names):
            print(*different, sep="\n", file=sys.stderr)
            return 1
        print(f"agrees with {arguments.check}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
