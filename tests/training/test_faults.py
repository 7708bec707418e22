"""Full disks, damaged checkpoints, other data, steps and images that go wrong: told, and nothing is lost."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from survival import OPTIONS, Killed, assert_same_run, kill_at, lost_losses, progress_of, resume
from tiny_run import run

from lclipseg.console.accelerators import surely_none
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.training.folder import Progress, checksums


@pytest.mark.parametrize("place", ["/proc/run", "{file}/run"])
def test_folder_that_cannot_be_written_to_is_named_before_any_work(workspace, tmp_path, place):
    (tmp_path / "file").write_text("")
    place = place.format(file=tmp_path / "file")
    with pytest.raises(InputError, match=rf"--output_dir {place} cannot be written to"):
        run(workspace, Path(place))


@pytest.fixture
def leave(tmp_path, monkeypatch):
    """Let the disk have so many bytes left."""
    usage = shutil.disk_usage(tmp_path)
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))


def test_disk_too_small_is_noticed_before_any_work(workspace, tmp_path, leave):
    leave(2_000_000)
    with pytest.raises(InputError, match=r"has 2 MB left, but the checkpoints of this run need \d+ MB"):
        run(workspace, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_room_that_checkpoints_take_already_is_no_reason_against_a_resume(workspace, copied, leave):
    leave(int(1.5 * sum(path.stat().st_size for path in (copied / "last").rglob("*"))))
    resume(workspace, copied)


@pytest.mark.parametrize("share", [0.001, 0.9])
def test_disk_that_fills_up_leaves_the_checkpoint_before(workspace, tmp_path, whole_runs, share):
    """From step 6 on no file may become longer than a share of the longest, as on a full disk."""
    longest = max(path.stat().st_size for path in (whole_runs["alone"] / "last").rglob("*"))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress: Progress) -> None:
        if progress.step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * longest), unlimited[1]))

    try:
        with pytest.raises(InputError, match=r"could not be written: .*last is as it was.*--resume true"):
            run(workspace, tmp_path / "run", *OPTIONS, on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert progress_of(tmp_path / "run")["step"] == 5
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
def test_damaged_checkpoint_is_named_and_left_alone(workspace, damage, name, copied):
    damage(copied / "last" / name)
    before = checksums(copied)
    with pytest.raises(InputError, match=rf"cannot be resumed.*{name.removeprefix('../')}.* in another --output_dir"):
        resume(workspace, copied)
    assert checksums(copied) == before


def sign(checkpoint: Path) -> None:
    """Say of the files that they are as they should be."""
    (checkpoint / "sha256.json").write_text(json.dumps(checksums(checkpoint)))


@pytest.mark.parametrize("change", ["shape", "names", "moments"])
def test_checkpoint_of_another_model_is_refused(workspace, copied, change):
    path = copied / "last" / ("training_state/optimizer.safetensors" if change == "moments" else "model.safetensors")
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors["another" if change == "names" else name] = torch.zeros(3, 5)
    if change == "names":
        del tensors[name]
    save_file(tensors, path)
    sign(copied / "last")
    with pytest.raises(InputError, match=rf"of another model: .*{name}"):
        resume(workspace, copied)


def test_pickle_in_place_of_a_state_is_not_opened(workspace, tmp_path, copied):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    for path in (copied / "last").rglob("*.safetensors"):
        torch.save(Harm(), path)
    sign(copied / "last")
    with pytest.raises(InputError, match="cannot be resumed"):
        resume(workspace, copied)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("names", [["images/1.png"], ["masks/1.png"], ["images/new.png", "masks/new.png"]])
def test_run_is_not_resumed_on_other_data(workspace, copied, data, names):
    for name in names:
        path = data / "train" / name
        shutil.copy(path.with_name("0.png"), path)
    with pytest.raises(InputError, match="the data to train on are not those"):
        resume(workspace, copied, "--data", str(data))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["sky", "tree"], "class_names was"),
        ({"classes": ["sky", "road"], "ignore_index": 7}, "labels was"),
        ({"classes": ["sky", "road"], "do_reduce_labels": True}, "labels was"),
    ],
)
def test_run_is_not_resumed_with_other_classes_or_another_meaning_of_the_ids(workspace, copied, data, classes, said):
    (data / "classes.json").write_text(json.dumps(classes))
    with pytest.raises(InputError, match=said):
        resume(workspace, copied, "--data", str(data))


def test_data_may_have_moved(workspace, whole_runs, copied, data):
    resume(workspace, copied, "--data", str(data))
    assert_same_run(whole_runs["alone"], copied)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--guidance", "none"), "guidance"),
        (("--epochs", "3"), "epochs"),
        (("--seed", "1"), "seed"),
        (("--crop_size", "48", "48"), "crop_size"),
        (("--mixed_precision", "bf16"), "precision was 'no' and is 'bf16'"),
    ],
)
def test_run_is_not_resumed_as_another_one(workspace, whole_runs, options, said):
    with pytest.raises(InputError, match=said):
        resume(workspace, whole_runs["alone"], *options)


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
        run(workspace, tmp_path / "run", *OPTIONS, "--epochs", "11", "--eval_every", "2")
    assert progress_of(tmp_path / "run")["skipped_in_a_row"] == 20
    assert are_finite(tmp_path / "run" / "last")


@pytest.fixture
def damaged(data) -> str:
    """Data with one of the six training images cut short."""
    halve(data / "train" / "images" / "3.png")
    return str(data)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_damaged_image_is_named_left_out_and_counted(workspace, tmp_path, damaged, caplog, workers):
    options = ("--data", damaged, "--max_unreadable", "0.2", "--num_workers", workers)
    with caplog.at_level("WARNING", logger="lclipseg"):
        assert run(workspace, tmp_path / "run", *options)["unreadable_samples"] == 2  # once in each of two epochs
    assert caplog.text.count("3.png: damaged or cut short") == 1


def test_too_many_damaged_images_end_the_run_with_its_state_saved(workspace, tmp_path, damaged):
    options = ("--data", damaged, "--epochs", "1")
    with pytest.raises(InputError, match=r"--max_unreadable\): .*3\.png: damaged"):
        run(workspace, tmp_path / "run", *options)
    assert run(workspace, tmp_path / "run", *options, "--max_unreadable", "1", "--resume", "true")["step"] == 3


def test_damaged_validation_image_costs_no_step(workspace, tmp_path, data):
    whole = (data / "val" / "images" / "1.png").read_bytes()
    halve(data / "val" / "images" / "1.png")
    with pytest.raises(InputError, match=r"1\.png: damaged"):
        run(workspace, tmp_path / "run", "--data", str(data))
    assert progress_of(tmp_path / "run")["step"] == 3
    (data / "val" / "images" / "1.png").write_bytes(whole)
    with pytest.raises(InputError, match=r"the data to eval on are not those.*--accept_changed_data true"):
        run(workspace, tmp_path / "run", "--data", str(data), "--resume", "true")
    options = ("--data", str(data), "--resume", "true", "--accept_changed_data", "true")
    assert run(workspace, tmp_path / "run", *options)["step"] == 6
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("workers", ["0", "2"])
def test_wrong_image_costs_no_step_and_is_told_without_a_traceback(workspace, tmp_path, capsys, workers, data):
    """Its header does not show that it holds no colours, so that no look at the start finds it."""
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


def test_wrong_id_is_told_before_the_first_step(workspace, tmp_path, data):
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


@pytest.mark.parametrize(
    ("device", "system", "none"),
    [("null", "linux", True), ("nvidia0", "linux", False), ("kfd", "linux", False), ("null", "darwin", False)],
)
def test_that_there_is_no_accelerator_is_said_only_where_it_is_sure(device, system, none, tmp_path):
    (tmp_path / device).touch()
    assert surely_none(tmp_path, system) is none


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in float16")
def test_float16_without_a_gpu_is_refused(workspace, tmp_path):
    with pytest.raises(InputError, match=r"fp16 needs a GPU.* Give --mixed_precision no"):
        run(workspace, tmp_path / "run", "--mixed_precision", "fp16")


def test_validation_data_without_a_label_are_told(workspace, tmp_path, data):
    for mask in (data / "val" / "masks").iterdir():
        Image.fromarray(np.full((48, 64), 255, dtype=np.uint8)).save(mask)
    with pytest.raises(InputError, match="images to validate on have no labelled pixel"):
        run(workspace, tmp_path / "run", "--data", str(data))
