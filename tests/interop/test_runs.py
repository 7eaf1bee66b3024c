"""`run.json`, and what the command line says about runs that ended well, crashed or were damaged."""

import time

import numpy as np
import polars as pl
from recording import Recording, data_diet, run_metadata


def counts(**counted):
    rows = {"written": 0, "dropped": 0, "non_finite": 0, "lost": 0, "without_tokens": 0}
    return {**rows, **counted}


def test_metadata_of_a_finished_run(small):
    metadata = run_metadata(small.path, "seed-1")
    now = time.time() * 1000
    assert 0 <= metadata.pop("updated_unix_ms") - metadata.pop("started_unix_ms") < now
    assert metadata.pop("data_diet_version").count(".") == 2
    assert metadata.pop("recorded_by").startswith("data-diet-candle ")
    assert metadata.pop("waited_seconds") >= 0
    rows = sum(run == "seed-1" for run, *_ in small.observations)
    assert metadata == {
        "schema_version": 2,
        "run": "seed-1",
        "rank": 0,
        "status": "finished",
        "format": {
            "kind": "classes",
            "outputs": small.CLASSES,
            "examples": None,
            "ignore_index": None,
            "signals": ["el2n", "loss", "margin", "el1n", "confidence", "entropy"],
            "logits": "f32",
        },
        "seed": 1,
        "first_step": 0,
        "spawned_from": None,
        "targets": "classes",
        "rows": counts(written=rows),
        "snapshots": {"written": 0, "skipped": 0, "lost": 0},
        "gaps": [],
        "failure": None,
        "labels": {"examples": small.EXAMPLES, "changed": 0},
        "warnings": [],
    }


def test_rows_of_non_finite_logits_are_counted(recording, experiment):
    recording.open(experiment, "seed-0", 2, ignore_index=-1, logits={"top_k": 1})
    logits = np.array([[0, np.inf], [1, 0], [np.nan, 0], [0, 0]], dtype=np.float32)
    recording.record("train", [0, 1, 2, 3], [0, 0, 0, -1], logits)
    recording.finish()
    metadata = run_metadata(experiment, "seed-0")
    assert metadata["rows"] == counts(written=3, non_finite=2)
    assert metadata["format"]["logits"] == {"top_k": 1}
    assert metadata["format"]["ignore_index"] == -1
    assert "2 rows with non-finite logits" in data_diet("inspect", experiment).stdout


def batch(step):
    ids = np.arange(8) + 8 * step
    return "train", ids, ids % 3, np.eye(8, 3, dtype=np.float32)


def test_a_killed_run_is_recovered_to_the_last_flush(tmp_path, experiment):
    recording = Recording(tmp_path)
    recording.open(experiment, "seed-0", 3)
    for step in range(5):
        recording.record(*batch(step))
    recording.flush()
    assert run_metadata(experiment, "seed-0")["status"] == "running"
    recording.kill()
    recording.close()

    told = data_diet("recover", experiment).stderr
    assert "run `seed-0` (rank 0) was interrupted: 40 rows recovered" in told
    metadata = run_metadata(experiment, "seed-0")
    assert metadata["status"] == "failed"
    assert metadata["rows"]["written"] == 40
    for table in ["observations", "logits"]:
        rows = pl.read_parquet(experiment / table).sort("step", "example")
        assert rows["example"].to_list() == list(range(40))
    # A second time there is nothing left to do, and nothing comes twice.
    assert "nothing to recover" in data_diet("recover", experiment).stderr
    assert pl.read_parquet(experiment / "observations").height == 40
    # Both tables are counted.
    assert "2 parts, 80 rows" in data_diet("verify", experiment).stderr


def test_a_run_that_is_being_recorded_is_left_alone(recording, experiment):
    recording.open(experiment, "seed-0", 3)
    recording.record(*batch(0))
    recording.flush()
    assert "nothing to recover" in data_diet("recover", experiment).stderr
    recording.record(*batch(1))
    assert recording.finish()["rows"]["written"] == 16
    assert pl.read_parquet(experiment / "observations").height == 16


def test_verify_finds_a_single_flipped_bit(recording, experiment):
    recording.open(experiment, "seed-0", 3)
    for step in range(20):
        recording.record(*batch(step))
    recording.finish()
    assert "no problems found" in data_diet("verify", experiment).stderr
    (part,) = (experiment / "logits").rglob("*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)
    found = data_diet("verify", experiment, expect=1)
    assert str(part) in found.stdout, found.stdout


def test_verify_notices_a_part_that_is_gone(recording, experiment):
    recording.open(experiment, "seed-0", 3, publish_interval_ms=0)
    for step in range(3):
        recording.record(*batch(step))
        recording.flush()
    recording.finish()
    first, *_ = sorted((experiment / "observations").rglob("*.parquet"))
    first.unlink()
    data_diet("verify", experiment, expect=1)


def test_wrong_arguments_end_with_2_and_missing_things_with_1(tmp_path):
    data_diet("verify", tmp_path / "nowhere", expect=1)
    data_diet("scores", tmp_path, expect=2)
