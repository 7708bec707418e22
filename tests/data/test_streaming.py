"""Training from a table row by row: every row once an epoch, exact resume, the same scores, damaged rows left out."""

import json
from itertools import chain
from pathlib import Path

import datasets
import pyarrow
import pytest
from numbered_tables import write_numbered
from pyarrow import parquet
from safetensors.torch import load_file
from survival import Killed, kill_at
from tiny_run import run

from lclipseg.console.errors import InputError
from lclipseg.data.augmentation import training_transform
from lclipseg.data.open import load_segmentation_data, stream_segmentation_data
from lclipseg.data.streams import StreamedSamples
from lclipseg.prediction.evaluate import evaluate_model
from modeling_lclipseg import LClipSegImageProcessor

GREY = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Twelve numbered rows in three files; what `datasets` caches goes beside them."""
    root = tmp_path_factory.mktemp("tables")
    datasets.disable_progress_bars()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
        yield write_numbered(root / "numbered", files=3, rows=4)


@pytest.fixture(scope="module")
def two_classes(workspace, tables) -> Path:
    """The tiny training data as parquet files, two of training images and one for validation."""
    root = tables.parent / "two classes"
    root.mkdir()
    (root / "classes.json").write_text('["sky", "road"]')
    for split, files in (("train", (range(0, 3), range(3, 6))), ("validation", (range(2),))):
        source = workspace / "data" / ("val" if split == "validation" else split)
        for number, rows in enumerate(files):
            columns = {
                column: [str(source / folder / f"{row}.png") for row in rows]
                for column, folder in (("image", "images"), ("mask", "masks"))
            }
            features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
            datasets.Dataset.from_dict(columns, features=features).to_parquet(root / f"{split}-{number:05d}.parquet")
    return root


def samples(folder: Path, seed: int = 0) -> StreamedSamples:
    transform = training_transform((32, 32), None, (1.0, 1.0), 1.0, GREY, GREY)
    return StreamedSamples(stream_segmentation_data(folder, "train"), transform, seed)


def first_batches(folder: Path, count: int, size: int = 4, start: int = 0, seed: int = 0) -> list[list[int]]:
    """The numbers of the rows in the first batches."""
    stream = samples(folder, seed)
    batches = stream.batches(size, start, 0, 1)
    return [[int(stream.data.read(row, "").mask[0, 0]) for _, row in next(batches)] for _ in range(count)]


def test_number_of_rows_comes_from_the_files(tables):
    assert samples(tables).images_per_epoch == 12


def test_every_epoch_has_every_row_in_an_order_of_its_own(tables):
    rows = list(chain(*first_batches(tables, 6)))
    assert sorted(rows[:12]) == sorted(rows[12:]) == list(range(12))
    assert rows[:12] != rows[12:]
    assert first_batches(tables, 1, seed=1) != first_batches(tables, 1)


@pytest.mark.parametrize("start", [1, 3, 5])
def test_resumed_stream_is_the_rest_of_the_whole(tables, start):
    assert first_batches(tables, 7)[start:] == first_batches(tables, 7 - start, start=start)


def test_read_passes_are_not_read_again(tables, monkeypatch):
    stream, read = samples(tables), []
    monkeypatch.setattr(type(stream.data), "shuffled", lambda self, seed: (read.append(seed), self)[1])
    batches = stream.batches(4, 0, 0, 1)
    for _ in range(7):
        next(batches)
    assert stream.state() == {"epoch_lengths": [12, 12]}
    resumed = samples(tables)
    resumed.load_state(stream.state())
    next(resumed.batches(4, 7, 0, 1))
    assert read[3:] == read[2:3]  # of three epochs the third alone


def test_stream_scores_like_the_indexed_table(two_classes, tmp_path, workspace):
    run(workspace, tmp_path / "run", "--epochs", "0.4")
    from modeling_lclipseg import LClipSegForSemanticSegmentation

    model = LClipSegForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last")
    streamed, indexed = (
        evaluate_model(model, LClipSegImageProcessor(), load(two_classes, "val"))
        for load in (stream_segmentation_data, load_segmentation_data)
    )
    assert streamed == indexed


def test_killed_run_on_a_stream_goes_on_bit_for_bit(workspace, two_classes, tmp_path):
    options = ("--data", str(two_classes), "--streaming", "true", "--epochs", "3", "--save_every", "0.7")
    whole = run(workspace, tmp_path / "whole", *options)
    with pytest.raises(Killed):
        run(workspace, tmp_path / "run", *options, "--num_workers", "2", on_step=kill_at(6))
    assert run(workspace, tmp_path / "run", *options, "--resume", "true") == whole
    one, other = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "run"))
    assert all((one[name] == other[name]).all() for name in one)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_damaged_row_is_named_left_out_and_counted(workspace, tables, tmp_path, caplog, workers):
    data = tmp_path / "data"
    data.mkdir()
    (data / "classes.json").write_text('["sky", "road"]')
    for split, count in (("train", 3), ("val", 2)):
        source = workspace / "data" / split
        columns = {
            column: [(source / folder / f"{row}.png").read_bytes() for row in range(count)]
            for column, folder in (("image", "images"), ("mask", "masks"))
        }
        if split == "train":
            columns["image"][1] = columns["image"][1][:100]
        parquet.write_table(pyarrow.table(columns), data / f"{split}.parquet")
    options = ("--streaming", "true", "--max_unreadable", "0.4", "--num_workers", workers, "--batch_size", "3")
    with caplog.at_level("WARNING", logger="lclipseg"):
        scores = run(workspace, tmp_path / "run", "--data", str(data), *options, "--warmup_steps", "0")
    assert scores["unreadable_samples"] == 2  # once in each of two epochs
    assert "image': damaged or cut short" in caplog.text


def test_stream_of_unknown_length_asks_for_it(workspace, two_classes, tmp_path, monkeypatch):
    from lclipseg.data import tables as table_data

    monkeypatch.setattr(table_data.TableSplit, "num_rows", lambda self: None)
    options = ("--data", str(two_classes), "--streaming", "true")
    with pytest.raises(InputError, match="--images_per_epoch"):
        run(workspace, tmp_path / "run", *options)
    assert run(workspace, tmp_path / "run", *options, "--images_per_epoch", "6")["step"] == 6
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"]["train"] == 6


def test_folder_cannot_be_streamed(workspace, tmp_path):
    with pytest.raises(InputError, match=r"data is a folder of images and masks.*only tables are streamed"):
        run(workspace, tmp_path / "run", "--streaming", "true")
