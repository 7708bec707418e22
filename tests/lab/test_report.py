"""The page of results from small made-up lines: numbers, pairs, what is missing, and that nothing else gets in."""

import json
import math
import re
from itertools import product
from pathlib import Path

import pytest
import yaml

from lclipseg.console.errors import InputError
from lclipseg.lab.comparisons import grid, report
from lclipseg.lab.comparisons import plots as report_plots
from lclipseg.lab.comparisons.finished import FinishedTable
from lclipseg.lab.comparisons.grid import Comparison
from lclipseg.lab.comparisons.plots import class_gains
from lclipseg.lab.comparisons.report import write_report
from lclipseg.lab.comparisons.unseen import UnseenScores, choose_calibration

SCHEDULE = {"crop_size": [192, 256], "shortest_edge": 288, "epochs": 12.0, "batch_size": 8}
SCHEDULE |= {"learning_rate": 0.001, "backbone_lr_scale": 0.25}
METHODS = {
    "title": "Methods",
    "about": "Only the guidance differs.",
    "data": ["toy"],
    "backbones": ["lclipseg-a", "lclipseg-b"],
    "seeds": [0, 1, 2],
    "reference": "fusion",
    "variants": {"none": {"guidance": "none"}, "fusion": {"guidance": "fusion"}},
}
UNSEEN = {**METHODS, "backbones": ["lclipseg-a"], "seeds": [0], "held_out": ["fold-1", "fold-2", "fold-3"]}
# By method, backbone and seed; lclipseg-b has one seed, and its fusion none at all.
MEAN_IOUS = {
    ("none", "lclipseg-a"): {0: 0.50, 1: 0.52, 2: 0.54},
    ("fusion", "lclipseg-a"): {0: 0.51, 1: 0.54, 2: 0.60},
    ("none", "lclipseg-b"): {0: 0.90},
}


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch) -> Path:
    """Tables, recipes and held-out lists of this file instead of the project's; coarse plots, which are fast."""
    monkeypatch.setattr(report_plots, "DOTS_PER_INCH", 20)
    for name, constant in (("comparisons", "COMPARISONS"), ("recipes", "RECIPES"), ("held_out", "HELD_OUT")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(grid, constant, tmp_path / name)
    for name, content in {"methods": METHODS, "unseen": UNSEEN}.items():
        (tmp_path / "comparisons" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    for budget in grid.BUDGETS:
        (tmp_path / "recipes" / f"toy-{budget}.yaml").write_text(yaml.safe_dump(SCHEDULE))
    for fold in UNSEEN["held_out"]:
        (tmp_path / "held_out" / f"{fold}.yaml").write_text(f"classes: [{fold}]")
    return tmp_path


def make_line(
    table: str, variant: str, backbone: str, seed: int, held_out: str | None = None, data: str = "toy", **fields
) -> dict:
    return {
        "hash": Comparison.load(table).cell(variant, "cpu", data, backbone, seed, held_out).hash,
        "arguments": SCHEDULE,
        "steps": 552,
        "train_seconds": 360.0,
        "versions": {"python": "3.12.1", "torch": "2.9.0"},
        "machine": {"processor": "a processor", "cpu_count": 2, "torch_threads": 1, "gpu": None},
        "date": f"2026-11-2{seed}T12:00:00+00:00",
        "scores": None,
        "zero_shot": None,
        "parameters": 1,
        "macs": 10**9,
        **fields,
    }


def make_scores(mean_iou: float, **per_class: float | None) -> dict:
    return {"mean_iou": mean_iou, "per_class": per_class or {"sky": mean_iou + 0.1, "road": mean_iou - 0.1}}


def method_lines() -> list[dict]:
    return [
        make_line("methods", variant, backbone, seed, scores=make_scores(mean_iou))
        for (variant, backbone), by_seed in MEAN_IOUS.items()
        for seed, mean_iou in by_seed.items()
    ]


def unseen_line(variant: str, fold: str, harmonic_means: dict[float, float]) -> dict:
    """Seen classes at 0.4, unseen ones at 0.2, and any harmonic mean; 0 for projected vectors."""
    means = {"seen_mean_iou": 0.4, "unseen_mean_iou": 0.2}
    rows = [
        {**means, "calibration": calibration, "projected": projected, "harmonic_mean": 0 if projected else harmonic}
        for calibration, harmonic in harmonic_means.items()
        for projected in (False, True)
    ]
    return make_line("unseen", variant, "lclipseg-a", 0, fold, zero_shot={"unseen": [fold], "rows": rows})


def write(folder: Path, lines: list[dict], costs: dict | None = None) -> str:
    """Write the lines and the page; returns the page."""
    results, out = folder / "docs" / "results" / "grid.jsonl", folder / "docs" / "results.md"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if costs is not None:
        (results.parent / "costs.json").write_text(json.dumps(costs))
    write_report(results, results.parent / "costs.json", out, "cpu")
    return out.read_text(encoding="utf-8")


def rows_of(page: str, corner: str) -> dict[str, list[str]]:
    """The rows of the table with this first heading, by their first cell."""
    lines = page[page.index(f"| {corner} |") :].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_scores_are_means_and_deviations_over_seeds(tmp_path):
    rows = rows_of(write(tmp_path, method_lines()), "mIoU")
    assert rows["mIoU"] == ["toy a", "toy b"]
    assert rows["none"] == ["52.00 ± 2.00 (3)", "90.00 (1)"]
    assert rows["fusion"] == ["55.00 ± 4.58 (3)", "–"]  # squares 16, 1 and 25: the root of 21


def test_differences_are_over_pairs_that_both_have(tmp_path):
    rows = rows_of(write(tmp_path, method_lines()), "minus fusion")
    # -1, -2 and -6: mean -3, deviation the root of 7, half of the interval 4.3027 * sqrt(7 / 3) = 6.57
    assert rows["none"] == ["-3.00 [-9.57, +3.57] (3)", "–", "-3.00 [-9.57, +3.57] (3)"]
    assert rows["fusion"] == ["reference"] * 3


def test_all_pairs_are_those_of_every_setting(tmp_path):
    lines = [*method_lines(), make_line("methods", "fusion", "lclipseg-b", 0, scores=make_scores(0.97))]
    rows = rows_of(write(tmp_path, lines), "minus fusion")
    # -1, -2, -6 and -7: mean -4, deviation sqrt(26 / 3), half of the interval 3.1824 * sqrt(26 / 12) = 4.68
    assert rows["none"][1:] == ["-7.00 (1 pair, no interval)", "-4.00 [-8.68, +0.68] (4)"]


def test_differences_over_the_pairs_of_a_data_set_and_of_a_backbone(tmp_path):
    (tmp_path / "comparisons" / "methods.yaml").write_text(yaml.safe_dump({**METHODS, "data": ["toy", "doll"]}))
    (tmp_path / "recipes" / "doll-cpu.yaml").write_text(yaml.safe_dump(SCHEDULE))
    gains = {("toy", "a"): 0.01, ("toy", "b"): 0.03, ("doll", "a"): 0.05, ("doll", "b"): 0.07}
    lines = [
        make_line("methods", variant, f"lclipseg-{backbone}", 0, data=data, scores=make_scores(score))
        for (data, backbone), gain in gains.items()
        for variant, score in (("none", 0.5), ("fusion", 0.5 + gain))
    ]
    rows = rows_of(write(tmp_path, lines), "minus fusion, all of")
    assert rows["minus fusion, all of"] == ["toy", "doll", "a", "b"]
    assert [cell.split(" ")[0] for cell in rows["none"]] == ["-2.00", "-6.00", "-3.00", "-5.00"]


def test_only_an_unfinished_table_says_that_something_is_missing(tmp_path):
    every = product(METHODS["variants"], METHODS["backbones"], METHODS["seeds"])
    assert "Missing" not in write(tmp_path, [make_line("methods", *run, scores=make_scores(0.5)) for run in every])
    assert "Missing" in write(tmp_path, method_lines())


@pytest.mark.parametrize("dropped", [0, 3, 5])
def test_missing_in_words_is_exact(dropped):
    """Every missing cell matches what is said, and no finished one does."""
    lines = {line["hash"]: line for index, line in enumerate(method_lines()) if index != dropped}
    finished = FinishedTable(Comparison.load("methods"), "cpu", lines)
    phrases = finished.missing_in_words().split("; ")
    named = {
        place
        for place in finished.keys
        for phrase in phrases
        if all(_agrees(place, part.strip("`")) for part in phrase.split(" / "))
    }
    assert named == set(finished.missing())


def _agrees(place, part: str) -> bool:
    if part.startswith("seed"):
        return str(place.seed) in re.findall(r"\d+", part)
    return bool({place.backbone, place.data, place.variant} & set(part.split(", ")))


def test_lines_of_another_schedule_do_not_count(tmp_path):
    lines = method_lines()
    (tmp_path / "recipes" / "toy-cpu.yaml").write_text(yaml.safe_dump({**SCHEDULE, "epochs": 99}))
    with pytest.raises(InputError, match="today's schedule"):
        write(tmp_path, lines)


def test_classes_are_means_over_the_runs_that_every_method_has(tmp_path):
    rows = rows_of(write(tmp_path, method_lines()), "class")
    assert rows["sky"] == ["62.00", "65.00"]  # without the run of lclipseg-b, which fusion lacks
    assert rows["mean IoU"] == ["52.00", "55.00"]


def test_class_that_a_run_does_not_count_is_left_out_of_its_mean(tmp_path):
    ious = {("none", 0): 0.2, ("none", 1): None, ("fusion", 0): None, ("fusion", 1): None}
    lines = [
        make_line("methods", variant, "lclipseg-a", seed, scores=make_scores(0.5, sky=0.5, fence=iou))
        for (variant, seed), iou in ious.items()
    ]
    assert rows_of(write(tmp_path, lines), "class")["fence"] == ["20.00", "–"]


def test_gains_of_classes_are_the_references_and_spread_over_seeds_within_a_backbone():
    gains = {("lclipseg-a", 0): 0.01, ("lclipseg-a", 1): 0.03, ("lclipseg-b", 0): 0.20}
    lines = [
        make_line(
            "methods", variant, *run, scores=make_scores(0.5, sky=0.5 + gain * (variant == "fusion"), fence=None)
        )
        for run, gain in gains.items()
        for variant in METHODS["variants"]
    ]
    finished = FinishedTable(Comparison.load("methods"), "cpu", {line["hash"]: line for line in lines})
    by_class = class_gains(finished, "toy", "none")
    assert list(by_class) == ["sky"]
    assert by_class["sky"].mean == pytest.approx(0.08)
    assert by_class["sky"].deviation == pytest.approx(math.sqrt(2e-4))


def curves(**harmonic_means: tuple[float, ...]) -> dict[str, dict[float, UnseenScores]]:
    return {
        fold: {float(calibration): UnseenScores(0.4, 0.2, mean) for calibration, mean in enumerate(means)}
        for fold, means in harmonic_means.items()
    }


def test_calibration_is_chosen_without_the_fold_itself():
    by_fold = curves(a=(0.9, 0.1, 0.1), b=(0.1, 0.3, 0.2), c=(0.1, 0.3, 0.5))
    assert choose_calibration(by_fold, "a") == 2  # b and c have 0.1, 0.3 and 0.35
    assert choose_calibration(by_fold, "b") == 0  # a and c: 0.5, 0.2, 0.3
    by_fold["a"] = dict.fromkeys(by_fold["a"], UnseenScores(0.0, 0.0, 0.0))
    assert choose_calibration(by_fold, "a") == 2


@pytest.mark.parametrize(
    ("by_fold", "chosen"),
    [
        ({"a": (0.1, 0.1, 0.1), "b": (0.1, 0.2, 0.2)}, 1),  # of equals the smallest
        ({"a": (0.1, 0.2)}, None),  # there is no other fold
        ({"a": (0.1, 0.1), "b": (math.nan, 0.1)}, 1),  # nothing was counted
    ],
)
def test_calibration_is_the_smallest_of_the_best_that_count(by_fold, chosen):
    assert choose_calibration(curves(**by_fold), "a") == chosen


def test_folds_and_their_mean_without_and_with_calibration(tmp_path):
    lines = [
        unseen_line("fusion", "fold-1", {0.0: 0.10, 1.0: 0.20, 2.0: 0.60}),
        unseen_line("fusion", "fold-2", {0.0: 0.10, 1.0: 0.30, 2.0: 0.25}),
        unseen_line("fusion", "fold-3", {0.0: 0.40, 1.0: 0.30, 2.0: 0.20}),
    ]
    page = write(tmp_path, lines)
    tables = page.splitlines()
    rows = [line.split(" | ") for line in tables if line.startswith("| fusion | ") and line.count(" | ") == 8]
    # The other folds' means: 0.25, 0.30, 0.225; then 0.25, 0.25, 0.40; then 0.10, 0.25, 0.425.
    assert [row[4] for row in rows] == ["10.00", "10.00", "40.00", "20.00"]
    assert [row[5] for row in rows] == ["1", "2", "2", ""]
    assert [row[8].removesuffix(" |") for row in rows] == ["20.00", "25.00", "20.00", "21.67"]


def test_projected_vectors_have_rows_of_their_own(tmp_path):
    page = write(tmp_path, [unseen_line("fusion", "fold-1", {0.0: 0.10})])
    rows = {line.split(" | ")[0]: line.split(" | ") for line in page.splitlines() if "fold-1" in line}
    assert (rows["| fusion"][4], rows["| fusion, projected"][4]) == ("10.00", "0.00")


def test_harmonic_means_are_compared_fold_by_fold(tmp_path):
    lines = [
        unseen_line("none", "fold-1", {0.0: 0.11}),
        unseen_line("none", "fold-2", {0.0: 0.23}),
        unseen_line("fusion", "fold-2", {0.0: 0.20}),
        unseen_line("fusion", "fold-3", {0.0: 0.90}),
    ]
    rows = rows_of(write(tmp_path, lines), "H minus that of fusion")
    assert rows["none"][0] == "+3.00 (1 pair, no interval)"


def test_costs_of_another_form_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"costs\.json"):
        write(tmp_path, method_lines(), costs={"size": 512})


def test_page_links_to_files_that_exist(tmp_path):
    page = write(tmp_path, method_lines())
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert "results/plots/miou-macs.png" in links and "results/plots/gain-toy.png" in links
    assert all((tmp_path / "docs" / link).resolve().is_file() for link in links)


def test_starts_with_few_labels_have_a_section_and_a_plot(tmp_path):
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    runs = [("imagenet", 5, 0.4), ("mine", 5, 0.5), ("imagenet", 20, 0.5), ("mine", 20, 0.55)]
    lines = [
        {"data": "streets", "start": start, "images": images, "seed": 0, "label": "default", "mean_iou": mean_iou}
        for start, images, mean_iou in runs
    ]
    (results / report.FEW_LABELS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write(tmp_path, method_lines())
    assert rows_of(page, "minus imagenet")["streets, mine"][0] == "+10.00 (1 pair, no interval)"
    assert (results / "plots" / "gain-by-labels.png").is_file()


def test_same_lines_make_the_same_files(tmp_path):
    def written() -> dict[str, bytes]:
        write(tmp_path, method_lines())
        found = sorted((tmp_path / "docs").rglob("*.*"))
        return {path.name: path.read_bytes() for path in found if path.suffix in (".md", ".png")}

    first = written()
    assert len(first) == 3
    assert written() == first


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("cpu", r"grid\.jsonl has 0 lines.*python scripts/reproduce\.py methods"),
        ("tpu", "'tpu'; allowed: cpu, gpu"),
    ],
)
def test_page_that_cannot_be_written_is_refused(tmp_path, budget, said):
    with pytest.raises(InputError, match=said):
        write_report(tmp_path / "grid.jsonl", tmp_path / "costs.json", tmp_path / "results.md", budget)
    assert not (tmp_path / "results.md").exists()


def test_summary_renews_what_stands_between_its_marks(tmp_path):
    write(tmp_path, method_lines())
    document = tmp_path / "README.md"
    document.write_text(f"before\n{report.SUMMARY_BEGIN}\nold\n{report.SUMMARY_END}\nafter\n")
    report.write_summary(tmp_path / "docs" / "results" / "grid.jsonl", document, "cpu")
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert rows_of(text.replace(report.SUMMARY_END, "\n\n"), "mIoU")["none"] == [
        "52.00 ± 2.00 (3)",
        "90.00 (1)",
        "-3.00 [-9.57, +3.57] (3)",
    ]


def test_summary_needs_its_marks(tmp_path):
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(InputError, match=r"README\.md lacks the lines"):
        report.write_summary(tmp_path / "grid.jsonl", tmp_path / "README.md", "cpu")
