"""The benchmark: fair turns, honest statistics, contestants that really segment. No test looks at how long it took."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.lab.timing import benchmark, contestants, floor
from lclipseg.lab.timing.contestants import PEERS, Setting, build_contestant
from lclipseg.lab.timing.peak_memory import PeakMemory, peak_memory
from lclipseg.lab.timing.realistic_logits import RealisticLogits
from lclipseg.lab.timing.report import TrainRow, train_markdown
from lclipseg.lab.timing.stopwatch import Ratio, Stopwatch, Timing, in_turns
from lclipseg.networks.costs import flop_counter

SMALL = Setting(num_classes=3, size=64, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture
def folder_data(tmp_path) -> Path:
    """Two images of two classes."""
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / "data" / "train" / kind).mkdir(parents=True)
        for index in range(2):
            Image.effect_noise((80, 64), 50).point(lambda value: value % 2).convert(mode).save(
                tmp_path / "data" / "train" / kind / f"{index}.png"
            )
    (tmp_path / "data" / "classes.json").write_text('["sky", "road"]')
    return tmp_path / "data"


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


def test_a_ratio_is_that_of_paired_rounds():
    slow_round = Ratio.of([2.0, 20.0, 2.0] * 2, [1.0, 10.0, 1.0] * 2)
    assert slow_round == Ratio(2.0, (2.0, 2.0))


def test_a_ratio_takes_the_rounds_that_both_had():
    assert Ratio.of([2.0, 4.0, 6.0], [1.0, 1.0]).median == 3.0


def test_few_rounds_have_no_interval():
    assert Ratio.of([1.0] * 5, [2.0] * 5) == Ratio(0.5, None)


def test_the_interval_of_a_ratio_holds_its_median():
    ratio = Ratio.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0] * 6)
    assert ratio.interval[0] < ratio.median < ratio.interval[1]


def test_stopwatch_counts_what_is_inside():
    with Stopwatch(torch.device("cpu")) as watch:
        sum(range(1000))
    assert watch.milliseconds > 0


@pytest.mark.parametrize("name", ["lclipseg-mbv3s", "lclipseg-mbv3s:none", "lclipseg-mbv3s:unfolded", "segformer-b0"])
@torch.inference_mode()
def test_contestant_labels_every_pixel(name):
    contestant = build_contestant(name, SMALL)
    logits = contestant.forward(contestant.prepare(Image.new("RGB", (64, 64), "grey")))
    labels = contestant.label(logits)
    assert logits.shape[:2] == (1, 3) and labels.shape == (64, 64) and labels.max() < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PEERS))
@torch.inference_mode()
def test_every_peer_labels_every_pixel(name):
    contestant = build_contestant(name, SMALL)
    labels = contestant.label(contestant.forward(contestant.prepare(Image.new("RGB", (64, 64)))))
    assert labels.shape == (64, 64) and labels.max() < 3


@pytest.mark.slow
@torch.inference_mode()
def test_clipseg_encoded_once_gives_the_same_logits(monkeypatch):
    torch.manual_seed(0)
    several = build_contestant("clipseg", SMALL)
    monkeypatch.setattr(contestants.ClipSeg, "__init__", lambda self, setting: None)
    once = contestants.ClipSegOnce(SMALL)
    once.model, once.prompts = several.model, several.prompts
    pixel_values = several.prepare(Image.effect_noise((64, 64), 50).convert("RGB"))
    torch.testing.assert_close(once.forward(pixel_values), several.forward(pixel_values), rtol=1e-4, atol=1e-4)


def test_presets_are_fused_but_not_for_training():
    def norms(contestant):
        return sum(isinstance(module, torch.nn.BatchNorm2d) for module in contestant.model.modules())

    training = Setting(3, 64, SMALL.device, SMALL.dtype, for_training=True)
    assert norms(build_contestant("lclipseg-mbv3s", SMALL)) == 0
    assert norms(build_contestant("lclipseg-mbv3s", training)) > 30


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
    half = Setting(3, 64, SMALL.device, torch.bfloat16)
    with pytest.raises(InputError, match="float32"):
        build_contestant(f"lclipseg-mbv3s:{variant}", half)


def test_compiling_is_refused_where_nothing_would_be_compiled():
    with pytest.raises(InputError, match="--compile"):
        benchmark.main("parts", benchmark.BenchmarkArguments(compile=True))


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


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own():
    memory = peak_memory("lclipseg-mbv3s", SMALL)
    assert memory is None or 50 < memory.libraries < memory.total


def test_predict_writes_table_record_and_plot(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "peak_memory", lambda name, setting: PeakMemory(600.0, 700.0))
    args = benchmark.BenchmarkArguments(
        models=["lclipseg-mbv3s", "segformer-b0"],
        classes=[3],
        size=64,
        rounds=2,
        warm_up=0,
        threads=1,
        out=str(tmp_path),
    )
    benchmark.main("predict", args)
    record = json.loads((tmp_path / "benchmark-predict.json").read_text())
    assert [row["model"] for row in record["rows"]] == ["lclipseg-mbv3s", "segformer-b0"]
    assert record["rows"][0]["total_ratio"]["median"] == 1.0
    table = (tmp_path / "benchmark-predict.md").read_text()
    assert "| segformer-b0 | 3.7" in table and "| 700 (600) |" in table
    with Image.open(tmp_path / "benchmark-predict.png") as plot:
        assert plot.width > 300


def test_training_is_timed_in_the_real_loop(tmp_path, folder_data):
    args = benchmark.BenchmarkArguments(
        models=["lclipseg-mbv3s"],
        size=64,
        rounds=2,
        warm_up=1,
        threads=1,
        batch_size=2,
        data=str(folder_data),
        out=str(tmp_path),
    )
    benchmark.main("train", args)
    (row,) = json.loads((tmp_path / "benchmark-train.json").read_text())["rows"]
    assert row["images_per_second"] > 0 and 0 <= row["data_share"] <= 1


def test_steps_are_timed_by_classes_batch_and_loss(tmp_path):
    args = benchmark.BenchmarkArguments(
        classes=[300, 3], batch_sizes=[2], size=64, rounds=2, warm_up=0, threads=1, out=str(tmp_path)
    )
    benchmark.main("steps", args)
    rows = json.loads((tmp_path / "benchmark-steps.json").read_text())["rows"]
    kinds = [(row["batch_size"], row["loss"], row["num_classes"]) for row in rows]
    assert kinds == [(2, loss, k) for loss in ("exact", "sampled") for k in (3, 300)]
    assert all(row["memory_mb"]["total"] > row["memory_mb"]["libraries"] for row in rows)
    assert all(row["ratio"]["median"] == 1 for row in rows if row["num_classes"] == 3)
    assert "| 2 | 300 | sampled |" in (tmp_path / "benchmark-steps.md").read_text()


def test_steps_are_those_of_one_preset():
    with pytest.raises(InputError, match="one preset"):
        benchmark.main("steps", benchmark.BenchmarkArguments(models=["lclipseg-mbv3", "lclipseg-mbv3s"]))


def test_parts_and_their_floor_are_written(tmp_path):
    args = benchmark.BenchmarkArguments(
        models=["lclipseg-mbv3s", "lclipseg-mbv3s:none"], classes=[3], size=64, rounds=2, threads=1, out=str(tmp_path)
    )
    benchmark.main("parts", args)
    with_text, without = json.loads((tmp_path / "benchmark-parts.json").read_text())["rows"]
    names = [part["name"] for part in with_text["parts"]]
    assert names == [*floor.PARTS, floor.REST]
    assert [part["name"] for part in without["parts"]] == [name for name in names if name != "head.fusion"]
    assert "times the floor" in (tmp_path / "benchmark-parts.md").read_text()


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


def test_parts_of_a_peer_are_refused(tmp_path):
    args = benchmark.BenchmarkArguments(models=["segformer-b0"], classes=[3], size=64, rounds=2, out=str(tmp_path))
    with pytest.raises(InputError, match="none of our networks"):
        benchmark.main("parts", args)


def test_label_maps_of_all_ways_agree(tmp_path):
    args = benchmark.BenchmarkArguments(classes=[11, 30], size=96, rounds=2, warm_up=0, threads=1, out=str(tmp_path))
    benchmark.main("label-map", args)
    rows = json.loads((tmp_path / "benchmark-label-map.json").read_text())["rows"]
    assert len(rows) == 6 and min(row["identical"] for row in rows) > 0.999
    assert "| 30 | bilinear + argmax |" in (tmp_path / "benchmark-label-map.md").read_text()


def test_training_needs_data():
    with pytest.raises(InputError, match="--data"):
        benchmark.main("train", benchmark.BenchmarkArguments())


def test_table_of_training_names_the_share_of_waiting():
    content = {
        "arguments": {
            "size": 64,
            "batch_size": 2,
            "threads": 1,
            "dtype": "float32",
            "compile": False,
            "num_workers": 0,
            "cache": True,
            "cache_on_device": False,
        },
        "machine": {"gpu": None, "processor": "P", "cpu_count": 2},
        "versions": {},
        "date": "2000-01-01",
    }
    assert "| m | 5.0 [4.0, 6.0] | 2.0 | 12.5% |" in train_markdown(
        content, [TrainRow("m", Timing(5, (4, 6), 3), 2, 0.125)]
    )


@pytest.mark.parametrize("wrong", [{"rounds": 1}, {"classes": [0]}, {"size": 16}, {"threads": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="allowed"):
        benchmark.BenchmarkArguments(**wrong)


def test_unknown_mode_is_refused():
    with pytest.raises(InputError, match="predict, parts, label-map, train, steps"):
        benchmark.main("fly", benchmark.BenchmarkArguments())
