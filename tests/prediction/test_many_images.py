"""Many images: shares of processes add up, what stopped goes on, and tables are read and written."""

import json
from pathlib import Path

import pytest
from photos import save_photo
from PIL import Image
from written_export import write_export

from lclipseg.console.errors import InputError
from lclipseg.data.open import table_module
from lclipseg.prediction import results
from lclipseg.prediction.arguments import SegmentArguments
from lclipseg.prediction.files import segment_files

NAMES = ["a", "b", "deep/c", "d", "e"]


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("export"))


@pytest.fixture
def run(export, tmp_path):
    """Segment the images of the folder `photos`, or others, into the folder `out`."""
    for seed, name in enumerate(NAMES):
        save_photo(tmp_path / f"photos/{name}.png", seed=seed)

    def segment(out: str = "out", inputs: tuple = (), **options) -> int:
        args = SegmentArguments(model=str(export), out=str(tmp_path / out), **options)
        return segment_files([str(each) for each in inputs or [tmp_path / "photos"]], args)

    return segment


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def rows_in(folder: Path) -> dict[str, bytes]:
    from pyarrow import parquet

    rows = [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]
    found = {row["name"]: row["mask"]["bytes"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("write", ["all", "masks"])
def test_two_processes_give_what_one_gives(run, tmp_path, write):
    run("one", write=write)
    for share in ("1/2", "2/2"):
        assert run("two", write=write, share=share) == 0
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    assert len(list((tmp_path / "one").rglob("*_mask.png"))) == len(NAMES)


def test_a_launcher_tells_the_share(run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="3 processes were asked for but 1 run"):
        run(expected_processes=3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    run(write="masks", expected_processes=3)
    assert {path.name for path in (tmp_path / "out").rglob("*_mask.png")} == {"b_mask.png", "e_mask.png"}


@pytest.mark.parametrize("write", ["all", "masks", "parquet"])
def test_a_stopped_run_goes_on_with_what_is_missing_and_counts_what_fails(run, tmp_path, capsys, write):
    (tmp_path / "photos/d.png").write_bytes(b"no image")
    run(write=write, share="1/2")
    before = files_in(tmp_path / "out")
    assert run(write=write, resume=True) == 1
    assert "2 of 5 images segmented, 2 were there, 1 failed" in capsys.readouterr().out
    assert before.items() <= files_in(tmp_path / "out").items()


@pytest.mark.parametrize("write", ["all", "masks", "parquet"])
@pytest.mark.parametrize(
    "changed", [{"least_score": 6.0}, {"mode": "slide"}, {}], ids=["least_score", "mode", "weights"]
)
def test_a_run_does_not_go_on_with_other_options(run, export, write, changed):
    run(write=write)
    (option,) = changed or ["weights"]
    if option == "weights":  # trained again, in the same folder
        (export / "more.safetensors").write_text(write)
    with pytest.raises(InputError, match=rf"made with {option} .*; give the same, or another --out"):
        run(write=write, resume=True, **changed)


def test_results_of_other_classes_are_refused(run):
    run()
    with pytest.raises(InputError, match=r"made with classes \['red', 'green', 'blue'\] \(now \['red', 'blue'\]\)"):
        run(resume=True, classes="red, blue")
    run("masks", write="masks")
    with pytest.raises(InputError, match=r"classes\.json names other classes than \['red', 'blue'\]"):
        run("masks", write="masks", classes="red, blue", resume=True)


def test_an_image_of_another_folder_is_not_taken_for_the_one_of_its_name(run, tmp_path, capsys):
    run(inputs=(tmp_path / "photos/a.png",))
    save_photo(tmp_path / "others/a.png", seed=9)
    run(inputs=(tmp_path / "others/a.png",), resume=True)
    assert "1 of 1 images segmented, results" in capsys.readouterr().out


def test_a_second_run_does_not_add_every_image_once_more_to_a_table(run):
    run(write="parquet")
    with pytest.raises(InputError, match=r"masks-00000-00000\.parquet is there already: --resume true"):
        run(write="parquet")


def test_annotations_can_be_written_when_all_shares_are_done(run, tmp_path):
    run("one", annotations="coco")
    for share in ("1/2", "2/2"):
        run("two", share=share)
    run("two", annotations="coco", resume=True)
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")


def test_parquet_holds_the_masks_of_all_processes_in_files_of_so_many(run, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROWS_A_FILE", 2)
    run("files", write="masks")
    for share in ("1/2", "2/2"):
        run(write="parquet", share=share)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.parquet")) == [
        "masks-00000-00000.parquet",
        "masks-00000-00001.parquet",
        "masks-00001-00000.parquet",
    ]
    masks = files_in(tmp_path / "files")
    assert rows_in(tmp_path / "out") == {name: masks[f"{name}_mask.png"] for name in NAMES}
    assert json.loads(masks["classes.json"]) == {"classes": ["red", "green", "blue"]}


def test_images_of_a_table_are_segmented_like_files_and_masks_are_images_to_datasets(run, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    photos = sorted((tmp_path / "photos").rglob("*.png"))
    table = datasets.Dataset.from_dict({"image": list(map(str, photos))}).cast_column("image", datasets.Image())
    table.to_parquet(tmp_path / "photos.parquet")
    run("files", write="masks", inputs=tuple(photos))
    run("rows", write="parquet", split="train", inputs=(tmp_path / "photos.parquet",))
    rows = rows_in(tmp_path / "rows")
    assert list(rows) == [f"train-{index:07d}" for index in range(len(NAMES))]
    assert list(rows.values()) == [(tmp_path / f"files/{path.stem}_mask.png").read_bytes() for path in photos]
    masks = table_module().TableSplit.find(str(tmp_path / "rows/masks-00000-00000.parquet"), "train").load()
    assert isinstance(masks[0]["mask"], Image.Image)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": "0/2"}, "--share is '0/2'; give I/N"),
        ({"share": "3/2"}, "--share is '3/2'; give I/N"),
        ({"share": "half"}, "--share is 'half'; give I/N"),
        ({"image_column": "photo"}, "--image_column names a column of a table, which --split"),
        ({"annotations": "coco", "write": "parquet"}, "--annotations needs masks"),
        ({"annotations": "coco", "share": "1/2"}, "run one with --annotations and --resume true"),
    ],
)
def test_options_that_do_not_go_together_are_told(options, said):
    with pytest.raises(InputError, match=said):
        SegmentArguments(model="m", **options)
