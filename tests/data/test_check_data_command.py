"""check_data.py as a command: exit status, processes, and a report that names cannot break."""

import json
import os
import re
import signal
import sys
import time
from multiprocessing import get_context, get_start_method
from pathlib import Path

import pytest
from checked_data import check, copy_in_another_split, encoded, make_image, mask_of, no_mask, write_pairs, wrong_id

from lclipseg.commands import check_data
from lclipseg.console.errors import InputError
from lclipseg.data.check.run import Checker


@pytest.fixture
def command(monkeypatch):
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["check_data.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            check_data.command()
        return end.value.code

    return run


@pytest.mark.parametrize(("damage", "status"), [(lambda data: None, 0), (copy_in_another_split, 0), (wrong_id, 1)])
def test_exit_status_is_1_for_errors_and_0_for_clean_data_and_warnings(source, command, damage, status):
    damage(source)
    assert command(source) == status


@pytest.mark.parametrize(
    "arguments", [["/no/such/folder"], ["{source}", "--workers", "0"], ["{source}", "--split", "x"]]
)
def test_exit_status_is_2_where_nothing_can_be_checked(source, command, arguments, capsys):
    assert command(*(argument.format(source=source) for argument in arguments)) == 2
    assert "error: " in capsys.readouterr().err


def test_missing_class_list_is_unusable_input(source):
    (source / "classes.json").unlink()
    with pytest.raises(InputError, match=r"has no classes\.json\. Write one"):
        check(source)


def test_number_of_processes_does_not_change_the_report(source):
    write_pairs(source / "train", [f"{index:03d}" for index in range(100)], first_seed=100)
    for stem in range(0, 100, 3):
        mask_of(stem, 6).save(source / f"train/masks/{stem:03d}.png")
    no_mask(source)
    copy_in_another_split(source)
    assert check(source, "--workers", "2") == check(source, "--workers", "1")


@pytest.mark.skipif(get_start_method() != "fork", reason="other processes would not inherit the change")
def test_a_killed_process_is_an_error_and_not_a_hang(source, monkeypatch):
    def killed(self, part):
        os.kill(os.getpid(), signal.SIGKILL)  # as systems do when memory runs out

    monkeypatch.setattr(Checker, "check", killed)
    with pytest.raises(InputError, match="one of 2 processes was killed"):
        check(source, "--workers", "2")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals to a group of processes are POSIX")
def test_interrupt_ends_all_processes_without_a_traceback(source, monkeypatch, capfd):
    started = source.parent / "started"

    def slow(self, part):
        started.touch()
        time.sleep(600)

    def command():
        os.setsid()  # as a terminal does, the signal goes to the whole group
        check_data.command()

    write_pairs(source / "train", [f"{index:03d}" for index in range(60)], first_seed=100)
    monkeypatch.setattr(Checker, "check", slow)
    monkeypatch.setattr(sys, "argv", ["check-data", str(source), "--workers", "2"])
    process = get_context("fork").Process(target=command)
    process.start()
    while process.is_alive() and not started.exists():
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.join(60)
    errors = capfd.readouterr().err
    assert process.exitcode == check_data.INTERRUPTED
    assert "stopped before the end" in errors
    assert "Traceback" not in errors


# The report

HOSTILE = ["<script>x", "a|b", "line\nbreak", "`tick`", "[red]x[/red]", "](http:x)", "- item", "\x1b[31m", "\u202egpj"]


def test_names_of_files_cannot_break_the_report(source, capsys):
    for stem in HOSTILE:
        make_image(1).save(source / "train/images" / f"{stem.replace('/', '')}.png")
    check(source, "--out", str(source / "report"))
    text = (source / "report/data_check.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("- train/images")]
    assert len(lines) == len(HOSTILE)
    unescaped = re.sub(r"\\[^\w\s]|&\w+;", "", text)
    assert not re.search(r"<script|[`\x1b\u202e]|\]\(", unescaped)
    shown = capsys.readouterr().out
    assert "\u202e" not in shown
    assert "\x1b[31m" not in shown


def test_report_in_json_has_what_was_found(source):
    wrong_id(source)
    report = check(source, "--out", str(source / "report"))
    content = json.loads((source / "report/data_check.json").read_text())
    assert content["problems"][0]["kind"] == "wrong_id"
    assert content["problems"][0]["examples"][0]["name"] == "train/masks/b.png"
    assert content["splits"][0]["classes"][0]["pixels"] == report.splits[0].classes[0].pixels


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_in_no_encoding_can_be_written(source):
    name = os.fsencode(source / "train/images") + b"/\xff.png"
    Path(os.fsdecode(name)).write_bytes(encoded(make_image(40)))
    report = check(source, "--out", str(source / "report"))
    content = json.loads((source / "report/data_check.json").read_text())
    assert content["problems"][0]["examples"][0]["name"] == report.problems[0].examples[0].name
    assert "udcff" in (source / "report/data_check.md").read_text(encoding="utf-8")


def test_out_that_cannot_be_a_folder_is_an_error(source):
    with pytest.raises(InputError, match=r"--out .*classes\.json cannot be written"):
        check(source, "--out", str(source / "classes.json"))
