"""Checkpoints that ship in this repository: where their code and their card are.

Transformers runs no code but what lies in a checkpoint's folder. Here that is a link to the package, so that there is
one copy of it, which cannot be older than the model. The card is a link, too: an export takes the licence from it.
`lclipseg publish` makes folders that hold the files themselves.
"""

import json
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME

from lclipseg.console.files import read_json
from lclipseg.publishing.repository import reference
from modeling_lclipseg import (
    LClipSegConfig,
    LClipSegForSemanticSegmentation,
    LClipSegImageProcessor,
    LClipSegProcessor,
)

PACKAGE = "modeling_lclipseg"
ROOT = Path("..", "..")
CLASSES: dict[str, dict[str, type]] = {
    CONFIG_NAME: {
        "AutoConfig": LClipSegConfig,
        "AutoModel": LClipSegForSemanticSegmentation,
        "AutoModelForSemanticSegmentation": LClipSegForSemanticSegmentation,
    },
    IMAGE_PROCESSOR_NAME: {"AutoImageProcessor": LClipSegImageProcessor, "AutoProcessor": LClipSegProcessor},
}


def names_code(checkpoint: Path) -> bool:
    """Whether a folder has both links, and its files name the classes behind the one."""
    linked = all(link.is_symlink() and link.readlink() == target for link, target in _links(checkpoint))
    return linked and all(read_json(checkpoint / name).get("auto_map") == _auto_map(name) for name in CLASSES)


def name_code(checkpoint: Path) -> None:
    """Make the links, and name the classes in `config.json` and `preprocessor_config.json`; nothing else changes."""
    for link, target in _links(checkpoint):
        if not link.is_symlink():
            link.symlink_to(target)
    for name in CLASSES:
        content: dict[str, Any] = {**read_json(checkpoint / name), "auto_map": _auto_map(name)}
        text = json.dumps(dict(sorted(content.items())), indent=2, ensure_ascii=False)
        (checkpoint / name).write_text(text + "\n", encoding="utf-8")


def _links(checkpoint: Path) -> list[tuple[Path, Path]]:
    """Of a shipped checkpoint every link and what it leads to."""
    return [
        (checkpoint / PACKAGE, ROOT / PACKAGE),
        (checkpoint / "README.md", ROOT / "model_cards" / f"{checkpoint.name}.md"),
    ]


def _auto_map(name: str) -> dict[str, str]:
    return {auto_class: f"{PACKAGE}/{reference(cls)}" for auto_class, cls in CLASSES[name].items()}
