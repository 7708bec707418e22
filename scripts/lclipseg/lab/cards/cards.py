"""Write the model cards in model_cards/: one for each checkpoint in checkpoints/, one for each preset without any.
Also link the checkpoints to their code.

    python scripts/cards.py
    python scripts/cards.py --check true    # write nothing; fail where a card or a link is not as it should be

A checkpoint's scores are the results in docs/results that were measured on it. What no record holds, above all
licences, stands in configuration/cards.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.files import read_json
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.lab.cards.shipped import name_code, names_code
from lclipseg.lab.words.everyday import read_lines
from lclipseg.networks.checkpoints import load_model, weights_sha256
from lclipseg.networks.presets import load_preset, preset_names
from lclipseg.publishing.card import Place, trained_card, untrained_card
from lclipseg.publishing.facts import load_facts
from lclipseg.publishing.run import RESULT_KEYS, TrainedRun
from lclipseg.training.arguments import RUN_FILE
from lclipseg.training.folder import PROGRESS_FILE

EVERYDAY_FILE = "everyday.jsonl"
logger = logging.getLogger("lclipseg")


@dataclass
class CardArguments:
    """Which cards, from what."""

    out: str = field(default=str(project("model_cards")), metadata={"help": "Folder of the cards."})
    checkpoints: str = field(default=str(project("checkpoints")), metadata={"help": "Folder of trained checkpoints."})
    results: str = field(default=str(project("docs", "results")), metadata={"help": "Folder of their results."})
    check: bool = field(
        default=False, metadata={"help": "Only compare the cards with the records, and look for the links."}
    )


def main(options: CardArguments) -> None:
    """Write or check all cards and links."""
    cards = all_cards(Path(options.checkpoints), Path(options.results))
    out = Path(options.out)
    folders = sorted(path.parent for path in Path(options.checkpoints).glob(f"*/{RUN_FILE}"))
    if options.check:
        unlinked = [folder.name for folder in folders if not names_code(folder)]
        if unlinked:
            raise InputError(f"do not name their code: {', '.join(unlinked)}. Link them: python scripts/cards.py")
        wrong = [name for name, text in cards.items() if not _says(out / f"{name}.md", text)]
        if wrong:
            raise InputError(f"not what the records say: {', '.join(wrong)}. Write the cards: python scripts/cards.py")
        return
    for folder in folders:
        if not names_code(folder):
            name_code(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in cards.items():
        (out / f"{name}.md").write_text(text, encoding="utf-8")
    logger.info(f"wrote {len(cards)} cards to {out}")


def all_cards(checkpoints: Path, results: Path) -> dict[str, str]:
    """The cards by name: of every checkpoint, and of every preset without one."""
    runs = {path.parent: read_json(path) for path in sorted(checkpoints.glob(f"*/{RUN_FILE}"))}
    trained = {record["arguments"]["model"] for record in runs.values()}
    cards = {folder.name: checkpoint_card(folder, record, results) for folder, record in runs.items()}
    return cards | {name: str(untrained_card(load_preset(name))) for name in preset_names() if name not in trained}


def checkpoint_card(folder: Path, record: dict, results: Path) -> str:
    """The card of a checkpoint of this repository, with the results that name it, the plainest inference first."""
    place = f"{folder.parent.name}/{folder.name}"
    found = [content for path in sorted(results.glob("*.json")) if (content := read_json(path)).get("model") == place]
    found = [content for content in found if set(content) >= RESULT_KEYS]
    names = record["arguments"]["data"]
    if isinstance(names, list) and len(names) > 1:
        found += everyday_results(results / EVERYDAY_FILE, folder.name, [Path(name).name for name in names])
    if not found:
        raise InputError(f"{results} has no results of {place}; see `lclipseg evaluate --out`")
    measured, digest = (
        {content.get("weights_sha256") for content in found} - {None},
        weights_sha256(folder),
    )
    if measured - {digest}:
        raise InputError(f"results of {place} in {results} belong to other weights; measure again")
    found.sort(key=lambda content: (content["inference"]["mode"] != "whole", content["inference"]["flip"]))
    progress = read_json(folder / PROGRESS_FILE)
    is_early = progress["step"] < record["steps"]  # else the record alone says it
    run = TrainedRun(folder, record, tuple(found), progress if is_early else None)
    model, _ = load_model(folder)
    return str(trained_card(run, model, run.preset, load_facts(run.data_name, folder.name), Place(place)))


def everyday_results(path: Path, model: str, order: Sequence[str]) -> list[dict[str, Any]]:
    """
    The lines of a checkpoint in the file of `scripts/everyday.py`, in the form that a card takes.

    Args:
        path (`Path`): docs/results/everyday.jsonl.
        model (`str`): Name of the checkpoint's folder.
        order (sequence of `str`): Data sets that come first; those that it was not trained on follow.
    """
    lines = [line for line in read_lines(path) if line["model"] == model and line["limit"] is None]
    lines.sort(key=lambda line: (order.index(line["data"]) if line["data"] in order else len(order), line["data"]))
    return [
        {
            **{key: line[key] for key in ("split", "num_images", "weights_sha256", "trained_on", "machine", "date")},
            "data": f"data/{line['data']}",
            "classes_from": "data",
            "inference": {"mode": "whole", "flip": False, "window": None, "stride": None},
            "scores": {
                "mean_iou": line["mean_iou"],
                "pixel_accuracy": line["pixel_accuracy"],
                "per_class": {name: row["iou"] for name, row in line["classes"].items()},
            },
            "versions": line["versions"],
        }
        for line in lines
    ]


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def command() -> None:
    run_command(lambda: main(*arguments.parse(__doc__, CardArguments)))


if __name__ == "__main__":
    command()
