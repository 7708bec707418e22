"""The benchmark: fair turns, honest statistics, contestants that really segment. No test looks at how long it took."""

import json
import sys

import pytest
import torch
from PIL import Image
from written_export import write_export

from lclipseg.console.errors import InputError
from lclipseg.console.paths import project
from lclipseg.lab.timing import benchmark, floor, peers, step_speed
from lclipseg.lab.timing.contestant import Setting
from lclipseg.lab.timing.contestants import build_contestant
from lclipseg.lab.timing.library_peers import LIBRARY_PEERS
from lclipseg.lab.timing.peak_memory import PeakMemory, peak_memory
from lclipseg.lab.timing.realistic_logits import RealisticLogits
from lclipseg.lab.timing.stopwatch import Ratio, Timing, in_turns
from lclipseg.networks.costs import flop_counter

SMALL = Setting(num_classes=3, size=64, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(autouse=True)
def same_threads():
    """The command sets how many threads torch has."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_contestants_take_turns_and_the_order_is_turned():
    order = []
    in_turns({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2, warm_up=1, patience=60)
    assert "".join(order) == "abc" + "cba" + "abc"


def test_warm_up_does_not_count():
    counter = iter(range(10))
    assert in_turns({"a": lambda: next(counter)}, rounds=2, warm_up=3, patience=60) == {"a": [3, 4]}


def test_a_slow_contestant_has_two_rounds_all_the_same():
    results = in_turns({"slow": lambda: 1, "quick": lambda: 1}, rounds=5, warm_up=0, patience=-1)
    assert [len(one) for one in results.values()] == [2, 2]


def test_median_and_quartiles():
    assert Timing.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, (2.0, 4.0), 5)


@pytest.mark.parametrize(
    ("times", "reference", "ratio"),
    [
        ([2.0, 20.0, 2.0] * 2, [1.0, 10.0, 1.0] * 2, Ratio(2.0, (2.0, 2.0))),  # a slow round is slow for both
        ([2.0, 4.0, 6.0], [1.0, 1.0], Ratio(3.0, None)),  # of the rounds that both had
        ([1.0] * 5, [2.0] * 5, Ratio(0.5, None)),  # few rounds have no interval
    ],
)
def test_ratio_is_that_of_paired_rounds(times, reference, ratio):
    assert Ratio.of(times, reference) == ratio


def test_the_interval_of_a_ratio_holds_its_median():
    ratio = Ratio.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0] * 6)
    assert ratio.interval[0] < ratio.median < ratio.interval[1]


OURS = ["lclipseg-mbv3s", "lclipseg-mbv3s:none", "lclipseg-mbv3s:unfolded"]
QUICK = ["segformer-b0", "lraspp-mobilenet-v3"]
TO_WAIT_FOR = [pytest.param(name, marks=pytest.mark.slow) for name in sorted(set(peers.PEERS) - set(QUICK))]


@pytest.mark.parametrize("name", [*OURS, *QUICK, *TO_WAIT_FOR])
@torch.inference_mode()
def test_contestant_labels_every_pixel(name):
    if name in LIBRARY_PEERS and name.startswith(("smp", "yolo")):
        pytest.importorskip("ultralytics" if name.startswith("yolo") else "segmentation_models_pytorch")
    contestant = build_contestant(name, SMALL)
    logits = contestant.forward(contestant.prepare(Image.new("RGB", (64, 64), "grey")))
    labels = contestant.label(logits)
    assert logits.shape[:2] == (1, 3) and labels.shape == (64, 64) and labels.max() < 3


@pytest.mark.slow
@torch.inference_mode()
def test_clipseg_encoded_once_gives_the_same_logits(monkeypatch):
    torch.manual_seed(0)
    several = build_contestant("clipseg", SMALL)
    monkeypatch.setattr(peers.ClipSeg, "__init__", lambda self, setting: None)
    once = peers.ClipSegOnce(SMALL)
    once.model, once.prompts = several.model, several.prompts
    pixel_values = several.prepare(Image.effect_noise((64, 64), 50).convert("RGB"))
    torch.testing.assert_close(once.forward(pixel_values), several.forward(pixel_values), rtol=1e-4, atol=1e-4)


def test_presets_are_fused_but_not_for_training():
    def norms(contestant):
        return sum(isinstance(module, torch.nn.BatchNorm2d) for module in contestant.model.modules())

    training = Setting(3, 64, SMALL.device, SMALL.dtype, for_training=True)
    assert norms(build_contestant("lclipseg-mbv3s", SMALL)) == 0
    assert norms(build_contestant("lclipseg-mbv3s", training)) > 30


def test_peers_of_other_libraries_are_fused_and_compute_the_same_in_either_layout():
    torch.manual_seed(0)
    as_it_comes = build_contestant("lraspp-mobilenet-v3", SMALL)
    torch.manual_seed(0)
    channels_last = build_contestant("lraspp-mobilenet-v3:channels-last", SMALL)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in as_it_comes.model.modules())
    image = Image.effect_noise((64, 64), 50).convert("RGB")
    with torch.inference_mode():
        expected, found = (one.forward(one.prepare(image)) for one in (as_it_comes, channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["smp-fpn", "yolo26n-sem"])
def test_the_line_that_installs_a_missing_peer_is_said(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(InputError, match=r"pip install (segmentation-models-pytorch|ultralytics)"):
        build_contestant(name, SMALL)


def test_parameters_are_those_of_the_network_as_trained():
    folded, plain = (build_contestant(f"lclipseg-mbv3s{variant}", SMALL) for variant in ("", ":unfolded"))
    assert folded.parameters == plain.parameters


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["onnx", "int8"])
@torch.inference_mode()
def test_exported_contestants_compute_what_the_network_does(variant):
    torch.manual_seed(0)
    expected = build_contestant("lclipseg-mbv3s", SMALL)
    torch.manual_seed(0)
    exported = build_contestant(f"lclipseg-mbv3s:{variant}", SMALL)
    pixel_values = expected.prepare(Image.effect_noise((64, 64), 50).convert("RGB"))
    difference = (exported.forward(pixel_values) - expected.forward(pixel_values)).abs().max()
    assert difference < (1e-4 if variant == "onnx" else 3)


@pytest.mark.parametrize("variant", ["onnx", "int8"])
def test_onnxruntime_takes_part_on_the_cpu_in_float32_alone(variant):
    with pytest.raises(InputError, match="float32"):
        build_contestant(f"lclipseg-mbv3s:{variant}", Setting(3, 64, SMALL.device, torch.bfloat16))


@pytest.mark.parametrize(
    ("mode", "options", "said"),
    [
        ("fly", {}, "predict, parts, label-map, train, steps, video"),
        ("parts", {"compile": True}, "--compile"),
        ("parts", {"models": ["segformer-b0"], "classes": [3], "size": 64}, "none of our networks"),
        ("steps", {"models": ["lclipseg-mbv3", "lclipseg-mbv3s"]}, "one preset"),
        ("train", {}, "--data"),
        ("video", {"models": [str(project("checkpoints", "lclipseg-mbv3s-camvid"))]}, "no export with a label map"),
    ],
)
def test_what_cannot_be_timed_is_refused(mode, options, said):
    with pytest.raises(InputError, match=said):
        benchmark.main(mode, benchmark.BenchmarkArguments(**options))


@pytest.mark.parametrize("name", ["segformer-b9", "lclipseg-mbv3s:fast", ""])
def test_unknown_contestant_is_refused(name):
    with pytest.raises(InputError, match="allowed are segformer-b0"):
        build_contestant(name, SMALL)


def test_realistic_logits_have_any_shape_and_absent_classes_never_win():
    trained = RealisticLogits(torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    logits = trained.like(torch.empty(1, 50, 24, 32))
    assert logits.shape == (1, 50, 24, 32) and logits.argmax(dim=1).max() < 3


def test_share_of_cells_along_borders():
    logits = torch.zeros(2, 3, 3)
    logits[1, :, 0] = 1  # one column of another class: half of the cells lie along its border
    assert RealisticLogits(logits).unsettled_share == 0.5


@pytest.fixture
def timed(tmp_path):
    """Run a mode as briefly as can be; its rows."""

    def rows(mode: str, **options) -> list[dict]:
        brief = {"models": ["lclipseg-mbv3s"], "classes": [3], "size": 64, "rounds": 2, "warm_up": 0, "threads": 1}
        benchmark.main(mode, benchmark.BenchmarkArguments(**{**brief, "out": str(tmp_path), **options}))
        name = f"benchmark-{mode}-64" if mode == "predict" else f"benchmark-{mode}"  # 64 is not the usual size
        assert (tmp_path / f"{name}.md").is_file()
        return json.loads((tmp_path / f"{name}.json").read_text())["rows"]

    return rows


def test_predict_writes_table_record_and_plot(tmp_path, timed, monkeypatch):
    monkeypatch.setattr(benchmark, "peak_memory", lambda name, setting: PeakMemory(600.0, 700.0))
    rows = timed("predict", models=["lclipseg-mbv3s", "segformer-b0"])
    assert [row["model"] for row in rows] == ["lclipseg-mbv3s", "segformer-b0"]
    assert rows[0]["total_ratio"]["median"] == 1.0
    with Image.open(tmp_path / "benchmark-predict-64.png") as plot:
        assert plot.width > 300


def test_training_is_timed_in_the_real_loop(timed, workspace):
    (row,) = timed("train", warm_up=1, batch_size=2, data=str(workspace / "data"))
    assert row["images_per_second"] > 0 and 0 <= row["data_share"] <= 1


def test_steps_are_timed_by_classes_batch_and_loss(timed, tmp_path, monkeypatch):
    monkeypatch.setattr(step_speed, "STATUS", tmp_path / "none")  # no memory, for which every row takes a process
    rows = timed("steps", classes=[30, 3], batch_sizes=[2])
    kinds = [(row["batch_size"], row["loss"], row["num_classes"]) for row in rows]
    assert kinds == [(2, loss, k) for loss in ("exact", "sampled") for k in (3, 30)]
    assert all(row["ratio"]["median"] == 1 for row in rows if row["num_classes"] == 3)


def test_stages_of_a_video_are_timed_inside_of_the_graph_too(timed, tmp_path):
    export = write_export(tmp_path / "export", label_map=True)
    stages = ["decode", "resize", "network", "label map", "draw", "encode", "shares", "a whole frame"]
    assert [row["stage"] for row in timed("video", models=[str(export)], rounds=3)] == stages


def test_memory_of_a_step_is_that_of_a_process_of_its_own(timed, monkeypatch):
    monkeypatch.setattr(step_speed, "LOSSES", ("sampled",))
    (row,) = timed("steps", batch_sizes=[2])
    assert row["memory_mb"]["total"] > row["memory_mb"]["libraries"]


@pytest.mark.slow
def test_memory_of_a_prediction_is_that_of_a_process_of_its_own():
    memory = peak_memory("lclipseg-mbv3s", SMALL)
    assert memory is None or 50 < memory.libraries < memory.total


def test_parts_are_those_that_a_network_has(timed):
    with_text, without = timed("parts", models=["lclipseg-mbv3s", "lclipseg-mbv3s:none"])
    names = [part["name"] for part in with_text["parts"]]
    assert names == [*floor.PARTS, floor.REST]
    assert [part["name"] for part in without["parts"]] == [name for name in names if name != "head.fusion"]


def test_parts_add_up_to_the_whole_network():
    model = build_contestant("lclipseg-mbv3s", SMALL).model
    image = torch.zeros(1, 3, 64, 64)
    counter = flop_counter()
    with counter, torch.inference_mode():
        model(image)
    assert sum(part.macs for part in floor.part_costs(model, image, 1)) == counter.get_total_flops() // 2


def test_bytes_are_those_of_inputs_and_outputs():
    with floor._Traffic() as traffic:
        torch.zeros(10) + torch.zeros(1).expand(10)
    assert traffic.bytes[floor.REST] == 40 + 4 + (40 + 4 + 40)


def test_the_floor_is_that_of_the_slower_of_arithmetic_and_memory():
    part = floor.PartCost("part", 1.0, macs=100, bytes=100)
    assert part.floor(floor.Rates(macs=10, bytes=50)) == 10 and part.floor(floor.Rates(macs=50, bytes=20)) == 5


def test_label_maps_of_all_ways_agree(timed):
    rows = timed("label-map", classes=[11, 30], size=96)
    assert len(rows) == 6 and min(row["identical"] for row in rows) > 0.999


@pytest.mark.parametrize("wrong", [{"rounds": 1}, {"classes": [0]}, {"size": 16}, {"threads": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="allowed"):
        benchmark.BenchmarkArguments(**wrong)
