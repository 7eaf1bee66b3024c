"""Filtered data sets are loaded by the libraries that they are for."""

import io
import json
import os
import tarfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording import data_diet

# Loaders leave files open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

ROWS = 40
KEPT = [row for row in range(ROWS) if row % 3 == 0]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    kept = [float(row in KEPT) for row in range(ROWS)]
    pl.DataFrame({"example": range(ROWS), "score": kept}).write_parquet(path)
    return path


def filtered(scores, source, output, *more):
    data_diet(
        *("filter", "--scores", scores, "--by", "score", "--min", "0.5"),
        *("--manifest", source, "-o", output, *more),
    )


def picture(number):
    """A small image whose color is its number."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(data, "PNG")
    return data.getvalue()


def number_of(image):
    return int(np.asarray(image)[0, 0, 0])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_image_folder_is_loaded_by_datasets(kind, scores, tmp_path):
    import datasets

    source, output = tmp_path / "pets", tmp_path / "kept"
    names = [f"images/{row:02}.png" for row in range(ROWS)]
    frame = pl.DataFrame({"file_name": names, "text": [f"caption {row}" for row in range(ROWS)]})
    for split in (source / "train",):
        (split / "images").mkdir(parents=True)
        for row, name in enumerate(names):
            (split / name).write_bytes(picture(row))
        write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
        write[kind](split / f"metadata.{kind}")
    filtered(scores, source, output)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(output), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert [number_of(row["image"]) for row in loaded] == KEPT
    assert loaded["text"][:] == [f"caption {row}" for row in KEPT]


def torchvision_order(root):
    """The samples of `torchvision.datasets.ImageFolder`, as its documentation and code describe it."""
    samples = []
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    for index, name in enumerate(classes):
        for folder, _, files in sorted(os.walk(os.path.join(root, name), followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith((".jpg", ".png", ".webp")):
                    samples.append((os.path.relpath(os.path.join(folder, file), root), index))
    return samples


def test_class_folders_are_numbered_as_torchvision_does(scores, tmp_path):
    import datasets

    source, output = tmp_path / "train", tmp_path / "kept"
    random = np.random.default_rng(5)
    places = ["cat", "cat-b", "cat/x", "Cat", "dog/b/c", "dog/b-c", "dog"]
    for row in range(ROWS):
        place = source / places[row % len(places)]
        place.mkdir(parents=True, exist_ok=True)
        suffix = [".png", ".PNG", ".notes"][random.integers(0, 2)]
        (place / f"{random.integers(0, 10**9)}{suffix}").write_bytes(picture(row))
        (place / "notes.txt").write_text("no image")
    before = torchvision_order(source)
    assert len(before) == ROWS
    filtered(scores, source, output)
    assert torchvision_order(output) == [before[row] for row in KEPT]
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(output), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert loaded.num_rows == len(KEPT)
    assert (output / before[0][0]).stat().st_ino == (source / before[0][0]).stat().st_ino


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_shards_are_loaded_by_webdataset(suffix, form, scores, tmp_path):
    import webdataset as wds

    source, output = tmp_path / "shards", tmp_path / "kept"
    source.mkdir()
    folder = "" if form == tarfile.USTAR_FORMAT else "long/" * 30
    for shard in range(4):
        mode = "w:gz" if suffix == "tar.gz" else "w"
        with tarfile.open(source / f"train-{shard:04}.{suffix}", mode, format=form) as archive:
            for row in range(shard * 10, shard * 10 + 10):
                for extension, content in [
                    ("png", picture(row)),
                    ("json", json.dumps({"row": row}).encode()),
                    ("seg.txt", b"x" * row),
                ]:
                    info = tarfile.TarInfo(f"{folder}{row:06}.{extension}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    filtered(scores, source, output)
    shards = sorted(str(path) for path in output.iterdir())
    assert [os.path.basename(path) for path in shards] == sorted(os.listdir(source))
    loaded = list(wds.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert [json.loads(sample["json"])["row"] for sample in loaded] == KEPT
    assert [len(sample["seg.txt"]) for sample in loaded] == KEPT
    again = tmp_path / "again"
    data_diet("filter", "--recipe", tmp_path / "kept.recipe.json", "-o", again)
    for path in output.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_many_parquet_shards_are_loaded_by_datasets(scores, tmp_path):
    import datasets

    source, output = tmp_path / "data", tmp_path / "kept"
    source.mkdir()
    shards = 200
    for shard in range(shards):
        # Later shards have a column more, and one in which nothing is known.
        rows = {"id": pa.array([shard % ROWS], pa.int64()), "text": pa.array([f"row {shard}"])}
        rows["score"] = pa.array([None], pa.float64()) if shard % 7 else pa.array([1.5])
        pq.write_table(pa.table(rows), source / f"train-{shard:05}-of-{shards:05}.parquet")
    filtered(scores, source, output, "--key", "id", "--duplicates", "allow")
    assert len(list(output.iterdir())) == shards
    loaded = datasets.load_dataset(
        "parquet",
        data_files=sorted(str(path) for path in output.iterdir()),
        cache_dir=str(tmp_path / "cache"),
        split="train",
    )
    assert loaded["id"][:] == [shard % ROWS for shard in range(shards) if shard % ROWS in KEPT]
