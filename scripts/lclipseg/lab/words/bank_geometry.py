"""How well the vectors of a class list can be told apart, before and after a common direction is subtracted.

    python scripts/bank_geometry.py --bank words.safetensors --classes "sky, building, road, car"

Cosines are between different classes. The effective rank is the exponential of the entropy of the vectors' spectrum:
the number of directions that they really use. `kept` is the cosine between a class's vector in the whole list and in
the lists of three classes that hold it: 1 where the vector of a class does not depend on its company. With --other,
also the cosine of every word of the two banks with the mean of each: it tells one text tower from another.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from modeling_lclipseg import WordBank

MAX_SUBSETS = 500


@dataclass
class GeometryArguments:
    """What is looked at."""

    bank: str = field(default="", metadata={"help": "Word bank: FILE.safetensors or FILE.safetensors#key."})
    classes: str = field(default="", metadata={"help": "Words of the bank, comma-separated, at least three."})
    other: str | None = field(default=None, metadata={"help": "Word bank to tell apart from the first."})


@dataclass(frozen=True)
class Geometry:
    """Cosines between different classes, effective rank, and how far a vector depends on the list that it is in."""

    mean: float
    lowest: float
    highest: float
    effective_rank: float
    kept_mean: float
    kept_lowest: float


def measure(vectors: torch.Tensor, center: Callable[[torch.Tensor], torch.Tensor]) -> Geometry:
    """
    Args:
        vectors (`torch.Tensor` of shape `(num_classes, embed_dim)`): Unit vectors.
        center (`Callable`): From the vectors of a list to what is subtracted from them, of shape `(embed_dim,)`.
    """

    def centred(rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(rows - center(rows), dim=-1)

    whole = centred(vectors)
    different = (whole @ whole.T)[~torch.eye(len(whole), dtype=torch.bool)]
    energy = torch.linalg.svdvals(whole) ** 2
    shares = energy / energy.sum()
    subsets = itertools.islice(itertools.combinations(range(len(vectors)), 3), MAX_SUBSETS)
    kept = torch.cat([(centred(vectors[list(some)]) * whole[list(some)]).sum(-1) for some in subsets])
    return Geometry(
        mean=different.mean().item(),
        lowest=different.min().item(),
        highest=different.max().item(),
        effective_rank=(-(shares * shares.clamp(min=1e-12).log()).sum()).exp().item(),
        kept_mean=kept.mean().item(),
        kept_lowest=kept.min().item(),
    )


def main(options: GeometryArguments) -> dict[str, Geometry]:
    """Print the table; returns its rows."""
    names = [name.strip() for name in options.classes.split(",") if name.strip()]
    if not options.bank or len(names) < 3:
        raise InputError("--bank and at least three --classes are needed; see --help.")
    try:
        bank = WordBank.load(options.bank)
        vectors = bank.lookup(names)
        other = None if options.other is None else WordBank.load(options.other)
    except ValueError as error:
        raise InputError(str(error)) from error
    rows = {
        "as they are": measure(vectors, lambda rows: torch.zeros(rows.shape[1])),
        "minus the mean of the list": measure(vectors, lambda rows: rows.mean(dim=0)),
        "minus the mean of the bank": measure(vectors, lambda rows: bank.center),
    }
    title = f"{len(names)} classes, bank of {len(bank.names)} words"
    print(f"| {title} | cosine (lowest to highest) | effective rank | kept |\n|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row.mean:.3f} ({row.lowest:.3f} to {row.highest:.3f}) | {row.effective_rank:.1f} | "
            f"{row.kept_mean:.3f} (lowest {row.kept_lowest:.3f}) |"
        )
    if other is not None:
        print("\n| cosine, lowest to highest | mean of the first | mean of the other |\n|---|---|---|")
        for name, words in (("words of the first", bank), ("words of the other", other)):
            spans = [words.embeddings @ torch.nn.functional.normalize(one.center, dim=0) for one in (bank, other)]
            print(f"| {name} | {' | '.join(f'{span.min():.2f} to {span.max():.2f}' for span in spans)} |")
    return rows


def command() -> None:
    run_command(lambda: main(*arguments.parse(__doc__, GeometryArguments)))


if __name__ == "__main__":
    command()
