"""Filtering a manifest by score beside DuckDB and Polars: CSV and Parquet, time and peak memory.

    cargo build --release --workspace --features cli
    target/python/bin/python benches/engines/filter.py --rows 20000000 --rounds 3

`--baseline` names another build of data-diet, which takes its turn too.

Makes a seeded manifest of eight columns (an id in an order of its own, quoted text with commas and
doubled quotes, numbers, a path, ...) as CSV and as Parquet, and a table of scores for its ids; the
Python packages are those of tests/interop/requirements.txt. Each engine keeps the half with the highest
scores: DuckDB and Polars by a join with the scores and the threshold, which they are told. That the
kept rows are the same is checked. Everything lies in a directory of its own and goes away at the end.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import TARGET, in_turn, table

CHUNK = 1_000_000

DUCKDB = """
import duckdb, sys
source, scores, output, threshold, reader, options = sys.argv[1:]
duckdb.sql("SET preserve_insertion_order = true")
duckdb.sql(f\"\"\"COPY (SELECT m.* FROM {reader}('{source}') m JOIN '{scores}' s ON m.id = s.example
    WHERE s.el2n_mean >= {threshold}::DOUBLE) TO '{output}' ({options})\"\"\")
"""

POLARS = """
import polars as pl, sys
source, scores, output, threshold, kind = sys.argv[1:]
rows = pl.scan_csv(source) if kind == "csv" else pl.scan_parquet(source)
scores = pl.scan_parquet(scores).select("example", "el2n_mean")
kept = rows.join(scores, left_on="id", right_on="example", maintain_order="left")
kept = kept.filter(pl.col("el2n_mean") >= float(threshold)).drop("el2n_mean")
if kind == "csv":
    kept.sink_csv(output)
else:
    kept.sink_parquet(output, compression="snappy")
"""


def make(directory: Path, rows: int) -> float:
    """Writes the manifest and its scores; returns the score from which on half of the rows are kept."""
    import duckdb
    import numpy as np
    import polars as pl

    random = np.random.default_rng(7)
    ids = random.permutation(rows)
    scores = random.gamma(2.0, 0.2, rows)
    table_of_scores = pl.DataFrame(
        {
            "example": pl.Series(range(rows), dtype=pl.Int64),
            "label": random.integers(0, 1000, rows, dtype=np.int32),
            "el2n_mean": scores,
        }
    )
    table_of_scores.write_parquet(directory / "scores.parquet", compression="zstd")
    words = np.array(["a dog, asleep", 'a "small" cat', "plain", "tree", "two, or more", "", "x"])
    csv = (directory / "train.csv").open("wb")
    for start in range(0, rows, CHUNK):
        part = ids[start : start + CHUNK]
        size = len(part)
        frame = pl.DataFrame(
            {
                "id": part,
                "caption": words[random.integers(0, len(words), size)],
                "path": [f"images/{i % 1000:03}/{i:012x}.jpg" for i in part.tolist()],
                "width": random.integers(64, 4096, size),
                "height": random.integers(64, 4096, size),
                "weight": random.random(size).round(6),
                "source": np.array(["web", "camera", "scan"])[random.integers(0, 3, size)],
                "note": words[random.integers(0, len(words), size)],
            }
        )
        frame.write_csv(csv, include_header=start == 0)
    csv.close()
    duckdb.sql(f"SET memory_limit = '8GB'; SET temp_directory = '{directory}'")
    duckdb.sql(
        f"COPY (FROM read_csv('{directory}/train.csv')) TO '{directory}/train.parquet' (FORMAT parquet)"
    )
    # Of an odd number the larger half is kept, as `--fraction 0.5` rounds.
    return float(np.sort(scores)[rows - (rows + 1) // 2])


def cases(directory: Path, kind: str, threshold: float, binaries) -> dict[str, list[str]]:
    source, scores = str(directory / f"train.{kind}"), str(directory / "scores.parquet")
    output = {engine: str(directory / f"{engine}.{kind}") for engine in ("ours", "duckdb", "polars")}
    options = "HEADER" if kind == "csv" else "FORMAT parquet"
    ours = {
        name: [
            # It replaces nothing unasked.
            *("sh", "-c", 'rm -f "$0"; exec "$@" -o "$0" --no-recipe 2>/dev/null', output["ours"]),
            *(str(binary), "filter", "--scores", scores, "--manifest", source, "--key", "id"),
            *("--by", "el2n", "--keep", "highest", "--fraction", "0.5"),
        ]
        for name, binary in binaries.items()
    }
    return {
        **ours,
        "DuckDB": [
            *(sys.executable, "-c", DUCKDB, source, scores, output["duckdb"], repr(threshold)),
            *(f"read_{kind}", options),
        ],
        "Polars": [sys.executable, "-c", POLARS, source, scores, output["polars"], repr(threshold), kind],
    }


def check(directory: Path, kind: str) -> None:
    """The ids that each engine keeps are the same; a join of DuckDB may put them in another order."""
    import polars as pl

    scan = pl.scan_csv if kind == "csv" else pl.scan_parquet
    ids = [
        scan(directory / f"{engine}.{kind}").select("id").collect()["id"].sort()
        for engine in ("ours", "duckdb", "polars")
    ]
    for other in ids[1:]:
        assert ids[0].equals(other), f"the engines keep other rows of {kind}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=TARGET)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--binary", type=Path, default=TARGET / "release/data-diet")
    parser.add_argument("--baseline", type=Path, help="another build of data-diet")
    arguments = parser.parse_args()
    binaries = {"data-diet": arguments.binary}
    if arguments.baseline:
        binaries["baseline"] = arguments.baseline
    if arguments.make:
        print(repr(make(arguments.make, arguments.rows)))
        return
    if arguments.check:
        check(Path(arguments.check[0]), arguments.check[1])
        return
    directory = Path(tempfile.mkdtemp(prefix="bench-filter-", dir=arguments.directory))
    try:
        # A process of its own makes the data: what this one has ever held would count for its children.
        maker = [sys.executable, __file__, "--make", str(directory), "--rows", str(arguments.rows)]
        made = subprocess.run(maker, check=True, stdout=subprocess.PIPE, text=True)
        threshold = float(made.stdout)
        for kind in ("csv", "parquet"):
            size = (directory / f"train.{kind}").stat().st_size / 2**20
            results = in_turn(cases(directory, kind, threshold, binaries), arguments.rounds)
            subprocess.run([sys.executable, __file__, "--check", str(directory), kind], check=True)
            title = f"{arguments.rows:,} rows of {kind}, {size:,.0f} MiB; median of {arguments.rounds}"
            table(title, results, "data-diet")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
