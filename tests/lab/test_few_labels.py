"""The table of starts with few labels: of what has been run, without running it again."""

import json
from dataclasses import replace

import pytest

from lclipseg.lab.comparisons import few_labels
from lclipseg.lab.comparisons.few_labels import SUMMARY_BEGIN, SUMMARY_END, FewLabelsArguments

KEYS = ("data", "start", "images", "seed", "label", "mean_iou")
LINES = [
    ("streets", "imagenet", 5, 0, "default", 0.40),
    ("streets", "imagenet", 5, 1, "default", 0.42),
    ("streets", "mine", 5, 0, "default", 0.5),
    ("streets", "mine", 5, 0, "slow", 0.6),
    ("others", "mine", 5, 0, "default", 0.9),
]
ROW = "| streets, 5 images | 41.0 ± 1.4 (2) | 50.0 (1) |"


@pytest.fixture
def options(tmp_path) -> FewLabelsArguments:
    (tmp_path / "results.jsonl").write_text(
        "".join(json.dumps(dict(zip(KEYS, line, strict=True))) + "\n" for line in LINES)
    )
    return FewLabelsArguments(
        starts=["imagenet", "mine"], images=[5], seeds=1, results=str(tmp_path / "results.jsonl")
    )


def test_what_has_a_line_is_not_run_again(options, capsys):
    few_labels.main(["data/streets"], options)
    head, _, row = capsys.readouterr().out.strip().splitlines()
    assert (head, row) == ("| test mIoU | imagenet | mine | mine, slow |", f"{ROW} 60.0 (1) |")


def test_summary_has_the_starts_and_options_asked_for(options, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{SUMMARY_BEGIN}\nold\n{SUMMARY_END}\nAfter.\n")
    few_labels.main(["data/streets"], replace(options, summary=str(page)))
    lines = [line for line in page.read_text().splitlines() if line]
    assert lines[0] == "Before." and lines[-1] == "After." and lines[4] == ROW and "old" not in lines
