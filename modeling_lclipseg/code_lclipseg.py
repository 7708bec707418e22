"""What the JSON files of a checkpoint say about code."""

import copy
import os
from pathlib import Path
from typing import Any

REFERENCES = ("auto_map", "custom_pipelines")


class NamesItsCode:
    """
    A configuration or image processor whose JSON file names code only where that lies beside it.

    Transformers hands on what the checkpoint said that was loaded. The folder that a fine-tuned one is saved to holds
    less: no code where this package is installed, else that of the parts which were saved, all in the folder itself.
    """

    def to_json_file(self, json_file_path: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        written, folder = copy.copy(self), Path(json_file_path).parent
        for field in REFERENCES:
            named = getattr(self, field, None)
            if named is not None:
                delattr(written, field)
                kept = {key: found for key, entry in named.items() if (found := _found(entry, folder)) is not None}
                if kept:
                    setattr(written, field, kept)
        super(NamesItsCode, written).to_json_file(json_file_path, *args, **kwargs)  # type: ignore[misc]


def _found(entry: Any, folder: Path) -> Any:
    """An entry, `path/file.Class` or a `dict` with an `impl`, as it holds in `folder`; `None` where it is none."""
    if isinstance(entry, dict):
        reference = _found(entry["impl"], folder)
        return None if reference is None else {**entry, "impl": reference}
    for reference in (entry, entry.rpartition("/")[2]):
        of_another_repository = "--" in reference
        if of_another_repository or (folder / f"{reference.rpartition('.')[0]}.py").is_file():
            return reference
    return None


__all__ = ["NamesItsCode"]
