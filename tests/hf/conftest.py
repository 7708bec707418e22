"""Transformers' own common tests as the package `transformers_tests`, and a table of how LClipSeg does in them."""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from fetch import suite_folder

os.environ.setdefault("HF_HUB_OFFLINE", "1")
OUTCOMES = ("passed", "failed", "skipped")
STAND_INS = Path(__file__).parent / "stand_ins"
collect_ignore = ["stand_ins"]

if not suite_folder().is_dir():
    pytest.exit(f"{suite_folder()} does not exist; `make test-hf` fetches it and runs these tests.", returncode=2)

# A name of its own: `tests` would be our own folder wherever the repository is on the path. What the source
# distribution lacks comes from the second folder.
package = ModuleType("transformers_tests")
package.__path__ = [str(suite_folder()), str(STAND_INS)]
sys.modules["transformers_tests"] = package
sys.path.append(str(STAND_INS))


def pytest_configure(config):
    """Register the markers that transformers' tests bring along."""
    for module in suite_folder().glob("test_*_common.py"):
        for name in re.findall(r"\bmark\.(\w+)", module.read_text(encoding="utf-8")):
            config.addinivalue_line("markers", f"{name}: of transformers' tests")


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker("hf")


def pytest_terminal_summary(terminalreporter):
    """One line for each test class: a test counts as failed where it failed in any of its phases or subtests."""
    worst: dict[str, str] = {}
    for outcome, categories in (("passed", ["passed"]), ("skipped", ["skipped"]), ("failed", ["failed", "error"])):
        for category in categories:
            for report in terminalreporter.getreports(category):
                worst[report.nodeid] = outcome
    table: dict[str, Counter[str]] = {}
    for node_id, outcome in worst.items():
        suite = node_id.split("::")[-2:][0]  # the class, or the file where that cannot be imported
        table.setdefault(suite, Counter())[outcome] += 1
    width = max(map(len, table), default=0)
    terminalreporter.write_sep("=", "transformers' common tests")
    for suite, counts in [*sorted(table.items()), ("total", sum(table.values(), Counter()))]:
        numbers = "".join(f"{counts[outcome]:5} {outcome}" for outcome in OUTCOMES)
        terminalreporter.write_line(f"{suite:{width}}{numbers}")
