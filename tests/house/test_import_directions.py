"""Imports run downwards, from a room to those below it. Nothing imports the commands, nothing else the lab."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "scripts" / "lclipseg"
# From the ground up. Rooms of one line do not know each other.
FLOORS = (
    {"console", "configuration", "endpoint"},
    {"data"},
    {"networks"},
    {"prediction"},
    {"export", "serving", "training", "video"},
    {"publishing"},
    {"commands"},
    {"lab"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, also inside of functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{name.name}" for name in node.names]
        found |= {module.split(".")[1] for module in modules if module.startswith("lclipseg.")}
    return found


def test_every_room_has_its_floor():
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES} <= set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    room = path.relative_to(PACKAGE).parts[0]
    allowed = {other for other, floor in FLOOR.items() if floor < FLOOR[room]} | {room}
    assert imported_rooms(path) <= allowed - {"commands"} | {room}
