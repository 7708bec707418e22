"""One word bank from several tensors of a published file of text vectors.

    lclipseg merge-banks published.safetensors --keys oid500.a objects365.a lvis1203.a \\
        --text_model openai/clip-vit-base-patch32 --template "a {}" --out words/mine.safetensors

Beside the file stands published_names.json, as for every word bank. Names are cleaned: "legging_(clothing)" becomes
"legging". A word that occurs in several tensors has its vector from the first of --keys that has it. Name the tensors
with the plainest names first: underscores and qualifiers stood in the sentences that were embedded, and a word may
mean something else in another list ("tank", "football").
"""

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.networks.arguments import MergeArguments


def parse(argv: list[str] | None = None) -> tuple[str, MergeArguments]:
    description = "The published file, NAME.safetensors, with NAME_names.json beside it. Put it first."
    return arguments.parse_subject(__doc__, MergeArguments, "bank", description, argv=argv)


def main(bank: str, args: MergeArguments) -> None:
    from lclipseg.networks.word_banks import merge_tensors  # when the arguments are known to be right

    merge_tensors(bank, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
