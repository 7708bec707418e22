"""Embed words with a CLIP text tower and keep their vectors as a word bank, so that the tower is not needed again.

    lclipseg embed data/camvid/classes.json --text-model openai/clip-vit-base-patch16 --out words.safetensors
    lclipseg embed "sky, road, car" --text-model ./clip-vit-base-patch16 --out words.safetensors

WORDS is a text file with one word (or phrase) a line, a class list as data sets have it (classes.json, whose prompts
are taken where it has them), or a list separated by commas. Beside the bank stands words_names.json: the words in row
order, the name of the tower and the templates.
"""

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.networks.arguments import EmbedArguments


def parse(argv: list[str] | None = None) -> tuple[str, EmbedArguments]:
    description = "Text file, classes.json, or words separated by commas. Put it first."
    return arguments.parse_subject(__doc__, EmbedArguments, "words", description, argv=argv)


def main(words: str, args: EmbedArguments) -> None:
    from lclipseg.networks.embedding import embed_words  # when the arguments are known to be right

    embed_words(words, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
