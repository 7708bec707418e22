"""Full disks, damaged checkpoints, other data, steps and images that go wrong: told, and nothing is lost."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from survival import OPTIONS, Killed, assert_same_run, kill_at, lost_losses, resume
from tiny_run import run

from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.training.folder import Progress, checksums

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("place", ["/proc/run", "{file}/run"])
def test_folder_that_cannot_be_written_to_is_named_before_any_work(workspace, tmp_path, place):
    (tmp_path / "file").write_text("")
    place = place.format(file=tmp_path / "file")
    with pytest.raises(InputError, match=rf"--output_dir {place} cannot be written to"):
        run(workspace, Path(place))


def test_disk_too_small_is_noticed_before_any_work(workspace, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    with pytest.raises(InputError, match=r"has 2 MB left, but the checkpoints of this run need \d+ MB"):
        run(workspace, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("limit", [1_000, 100_000, 2_000_000])
def test_disk_that_fills_up_leaves_the_checkpoint_before(workspace, tmp_path, whole_runs, limit):
    """No file may become longer than the limit from step 6 on: as on a full disk, writing fails half way through."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        if progress.step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))

    try:
        with pytest.raises(InputError, match=r"could not be written: .*last is as it was.*--resume true"):
            run(workspace, tmp_path / "run", *OPTIONS, on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["step"] == 5
    assert not (tmp_path / "run" / "last.new").exists()
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


# --------------------------------------------------------------------------------------------- what is not the same


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (halve, "model.safetensors"),
        (change_a_bit, "training_state/optimizer.safetensors"),
        (Path.unlink, "training_state/random-0.safetensors"),
        (change_a_bit, "progress.json"),
        (Path.unlink, "sha256.json"),
        (halve, "../run.json"),
        (Path.unlink, "../run.json"),
    ],
)
def test_damaged_checkpoint_is_named_and_left_alone(workspace, tmp_path, whole_runs, damage, name):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    damage(copied / "last" / name)
    before = checksums(copied)
    with pytest.raises(InputError, match=rf"cannot be resumed.*{name.removeprefix('../')}.* in another --output_dir"):
        resume(workspace, copied)
    assert checksums(copied) == before


@pytest.mark.parametrize("change", ["shape", "names", "moments"])
def test_checkpoint_of_another_model_is_refused(workspace, tmp_path, whole_runs, change):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    path = copied / "last" / ("training_state/optimizer.safetensors" if change == "moments" else "model.safetensors")
    tensors = load_file(path)
    name = next(iter(tensors))
    if change == "names":
        tensors["another"] = tensors.pop(name)
    else:
        tensors[name] = torch.zeros(3, 5)
    save_file(tensors, path)
    (copied / "last" / "sha256.json").write_text(json.dumps(checksums(copied / "last")))
    with pytest.raises(InputError, match=rf"of another model: .*{name}"):
        resume(workspace, copied)


def test_pickle_in_place_of_a_state_is_not_opened(workspace, tmp_path, whole_runs):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    for path in (copied / "last").rglob("*.safetensors"):
        torch.save(Harm(), path)
    (copied / "last" / "sha256.json").write_text(json.dumps(checksums(copied / "last")))
    with pytest.raises(InputError, match="cannot be resumed"):
        resume(workspace, copied)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("change", ["image", "mask", "more", "classes"])
def test_run_is_not_resumed_on_other_data(workspace, tmp_path, whole_runs, change):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    if change == "classes":
        (data / "classes.json").write_text('["sky", "tree"]')
    elif change == "more":
        for name in ("images", "masks"):
            shutil.copy(data / "train" / name / "0.png", data / "train" / name / "new.png")
    else:
        folder = data / "train" / ("masks" if change == "mask" else "images")
        shutil.copy(folder / "0.png", folder / "1.png")
    with pytest.raises(
        InputError, match="class_names was" if change == "classes" else "the data to train on are not those"
    ):
        resume(workspace, copied, "--data", str(data))


def test_data_may_have_moved(workspace, tmp_path, whole_runs):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    resume(workspace, copied, "--data", str(data))
    assert_same_run(whole_runs["alone"], copied)


@pytest.mark.parametrize(
    ("option", "value"), [("--guidance", "none"), ("--epochs", "3"), ("--seed", "1"), ("--crop_size", "48 48")]
)
def test_run_is_not_resumed_as_another_one(workspace, whole_runs, option, value):
    with pytest.raises(InputError, match=option.removeprefix("--")):
        run(workspace, whole_runs["alone"], *OPTIONS, option, *value.split(), "--resume", "true")


def test_finished_run_says_so_and_changes_nothing(workspace, whole_runs, caplog):
    before = checksums(whole_runs["alone"])
    with caplog.at_level("INFO", logger="lclipseg"):
        resume(workspace, whole_runs["alone"])
    assert "finished: 12 steps" in caplog.text
    assert checksums(whole_runs["alone"]) == before


def test_run_that_stopped_before_its_first_checkpoint_can_begin_again(workspace, tmp_path, whole_runs):
    with pytest.raises(Killed):
        run(workspace, tmp_path / "run", *OPTIONS, on_step=kill_at(1))
    run(workspace, tmp_path / "run", *OPTIONS)
    assert_same_run(whole_runs["alone"], tmp_path / "run")


# ------------------------------------------------------------------------------------------------------- bad steps


def are_finite(checkpoint: Path) -> bool:
    weights = load_file(checkpoint / "model.safetensors").values()
    return all(value.isfinite().all() for value in weights if value.is_floating_point())


def test_step_that_is_not_finite_is_left_out_and_counted(workspace, tmp_path):
    with lost_losses(lambda number: number == 4):
        assert run(workspace, tmp_path / "run", *OPTIONS)["skipped_steps"] == 1
    assert are_finite(tmp_path / "run" / "last")


def test_run_that_diverges_keeps_its_last_good_checkpoint(workspace, tmp_path):
    with lost_losses(lambda number: number > 12), pytest.raises(InputError, match="diverged"):
        run(workspace, tmp_path / "run", *OPTIONS, "--epochs", "20")
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["skipped_in_a_row"] == 20
    assert are_finite(tmp_path / "run" / "last")


def damaged_data(workspace: Path, folder: Path) -> Path:
    """The data with one of the six training images cut short."""
    data = shutil.copytree(workspace / "data", folder)
    halve(data / "train" / "images" / "3.png")
    return data


@pytest.mark.parametrize("workers", ["0", "2"])
def test_damaged_image_is_named_left_out_and_counted(workspace, tmp_path, caplog, workers):
    data = damaged_data(workspace, tmp_path / "data")
    options = ("--data", str(data), "--max_unreadable", "0.2", "--num_workers", workers)
    with caplog.at_level("WARNING", logger="lclipseg"):
        assert run(workspace, tmp_path / "run", *options)["unreadable_samples"] == 2  # once in each of two epochs
    assert caplog.text.count("3.png: damaged or cut short") == 1


def test_too_many_damaged_images_end_the_run_with_its_state_saved(workspace, tmp_path):
    data = damaged_data(workspace, tmp_path / "data")
    with pytest.raises(InputError, match=r"--max_unreadable\): .*3\.png: damaged"):
        run(workspace, tmp_path / "run", "--data", str(data))
    assert (
        run(workspace, tmp_path / "run", "--data", str(data), "--max_unreadable", "1", "--resume", "true")["step"] == 6
    )


def test_damaged_validation_image_costs_no_step(workspace, tmp_path):
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    whole = (data / "val" / "images" / "1.png").read_bytes()
    halve(data / "val" / "images" / "1.png")
    with pytest.raises(InputError, match=r"1\.png: damaged"):
        run(workspace, tmp_path / "run", "--data", str(data))
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["step"] == 3
    (data / "val" / "images" / "1.png").write_bytes(whole)
    with pytest.raises(InputError, match=r"the data to eval on are not those.*--accept_changed_data true"):
        run(workspace, tmp_path / "run", "--data", str(data), "--resume", "true")
    options = ("--data", str(data), "--resume", "true", "--accept_changed_data", "true")
    assert run(workspace, tmp_path / "run", *options)["step"] == 6
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("workers", ["0", "2"])
def test_wrong_image_costs_no_step_and_is_told_without_a_traceback(workspace, tmp_path, capsys, workers):
    """Its header does not show that it holds no colours, so that no look at the start finds it."""
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    image = data / "train" / "images" / "2.tif"
    image.with_suffix(".png").unlink()
    Image.fromarray(np.full((48, 64), np.nan, dtype=np.float32)).save(image)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: run(workspace, tmp_path / "run", "--data", str(data), "--num_workers", workers))
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"error: {image}: this image holds NaN" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "last" / "progress.json").is_file()


def test_wrong_id_is_told_before_the_first_step(workspace, tmp_path):
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    Image.fromarray(np.full((48, 64), 7, dtype=np.uint8)).save(data / "train" / "masks" / "2.png")
    with pytest.raises(
        InputError, match=r"ids that are no class: 1 \(train/masks/2\.png holds 7 .*\"ignore_index\": 7"
    ):
        run(workspace, tmp_path / "run", "--data", str(data))
    assert not (tmp_path / "run" / "run.json").exists()


def test_batch_larger_than_the_data_is_said_with_the_number_that_fits(workspace, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="lclipseg"):
        run(workspace, tmp_path / "run", "--batch_size", "8", "--warmup_steps", "0")
    assert "--batch_size 8 is more than the 6 images to train on" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in float16")
def test_float16_without_a_gpu_is_refused(workspace, tmp_path):
    with pytest.raises(InputError, match=r"fp16 needs a GPU.* Give --mixed_precision no"):
        run(workspace, tmp_path / "run", "--mixed_precision", "fp16")


def test_validation_data_without_a_label_are_told(workspace, tmp_path):
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    for mask in (data / "val" / "masks").iterdir():
        Image.fromarray(np.full((48, 64), 255, dtype=np.uint8)).save(mask)
    with pytest.raises(InputError, match="images to validate on have no labelled pixel"):
        run(workspace, tmp_path / "run", "--data", str(data))


@pytest.mark.parametrize("meaning", [{"ignore_index": 7}, {"do_reduce_labels": True}])
def test_run_is_not_resumed_with_another_meaning_of_the_ids(workspace, tmp_path, whole_runs, meaning):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    (data / "classes.json").write_text(json.dumps({"classes": ["sky", "road"], **meaning}))
    with pytest.raises(InputError, match="labels was"):
        resume(workspace, copied, "--data", str(data))


def test_run_is_not_resumed_in_another_precision(workspace, tmp_path, whole_runs):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    with pytest.raises(InputError, match="precision was 'no' and is 'bf16'"):
        resume(workspace, copied, "--mixed_precision", "bf16")


def test_room_that_checkpoints_take_already_is_no_reason_against_a_resume(
    workspace, tmp_path, monkeypatch, whole_runs
):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    taken = sum(path.stat().st_size for path in (copied / "last").rglob("*"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(1.5 * taken)))
    resume(workspace, copied)


UNFORESEEN = """
import sys
from pathlib import Path
from tiny_run import run

def fail(progress):
    raise RuntimeError("unforeseen")

run(Path(sys.argv[1]), Path(sys.argv[2]), "--num_workers", "2", on_step=fail)
"""


def test_unforeseen_error_ends_the_readers_too(workspace, tmp_path):
    """They ignore SIGTERM, with which Python ends its processes before it waits for them."""
    paths = [str(ROOT), str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", UNFORESEEN, str(workspace), str(tmp_path / "run")]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("RuntimeError: unforeseen")
