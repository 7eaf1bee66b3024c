"""The code of docs/selections.md runs, and every way to use a selection comes to the same."""

import contextlib
import importlib.util
import re
import shlex
import sys
import types

import duckdb
import numpy as np
import polars as pl
from recording import REPOSITORY, data_diet

PAGE = (REPOSITORY / "docs" / "selections.md").read_text(encoding="utf-8")
ROWS = 30


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Subset:
    """What the page uses of PyTorch, which is too large to install for one class."""

    def __init__(self, dataset, indices):
        self.dataset, self.indices = dataset, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, place):
        return self.dataset[self.indices[place]]


@contextlib.contextmanager
def torch():
    """Puts `Subset` where PyTorch has it, unless PyTorch is there."""
    if importlib.util.find_spec("torch"):
        yield
        return
    names = ("torch", "torch.utils", "torch.utils.data")
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules["torch.utils.data"].Subset = Subset
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def test_the_page_runs_and_agrees(tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    el2n = np.random.default_rng(2).random(ROWS)
    el2n[4] = np.nan
    scores = {
        "example": np.arange(ROWS),
        "label": np.zeros(ROWS, np.int32),
        "el2n_mean": el2n,
    }
    pl.DataFrame(scores).write_parquet("scores.parquet", statistics=True)
    pl.DataFrame({"id": range(ROWS), "text": [f"row {row}" for row in range(ROWS)]}).write_csv("train.csv")
    for line in "".join(blocks("sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "data-diet"
        data_diet(*arguments)
    best = np.argsort(np.nan_to_num(el2n, nan=-1.0))[-round(0.7 * (ROWS - 1)) :]
    expected = sorted(best.tolist())
    dropped = [int(line) for line in (tmp_path / "dropped.txt").read_text().split()]
    assert sorted(expected + dropped) == list(range(ROWS)) and 4 in dropped

    rows = [f"row {row}" for row in range(ROWS)]
    names = {"dataset": rows, "hf_dataset": datasets.Dataset.from_dict({"text": rows})}
    in_torch, in_datasets, in_polars, in_duckdb, nan = blocks("python")
    with torch():
        exec(in_torch, names)
    assert [names["train"][place] for place in range(len(names["train"]))] == [rows[it] for it in expected]
    exec(in_datasets, names)
    assert names["train"]["text"][:] == [rows[it] for it in expected]
    exec(in_polars, names)
    assert names["kept"]["id"].to_list() == expected
    exec(in_duckdb, names)
    assert sorted(row[0] for row in names["kept_rows"]) == expected
    exec(nan, names)
    above = [row for row in range(ROWS) if el2n[row] > 0.5]
    assert names["in_polars"]["example"].to_list() == above
    assert sorted(row[0] for row in names["in_duckdb"]) == above
    assert names["in_pandas"]["example"].tolist() == above
    ids = data_diet("select", "--scores", "scores.parquet", "--by", "el2n", "--min", "0.5", "-o", "-").stdout
    assert [int(line) for line in ids.split()] == above
    decisions = pl.read_parquet("decisions.parquet")
    assert decisions.columns == ["example", "label", "el2n", "decision"]
    assert decisions.filter(pl.col("decision") == "unscored")["example"].to_list() == [4]
    assert duckdb.sql("SELECT count(*) FROM 'decisions.parquet'").fetchall() == [(ROWS,)]
