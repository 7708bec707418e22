"""What `lclipseg publish` can be told."""

import re
from dataclasses import dataclass, field

from lclipseg.console.errors import InputError

PART = re.compile(r"(?!.*(--|\.\.|\.git$))[A-Za-z0-9_]([A-Za-z0-9_.-]{,94}[A-Za-z0-9_])?")  # the Hub's own rule
BRANCH = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


@dataclass
class PublishArguments:
    repo: str = field(metadata={"help": "OWNER/NAME on the Hub; it is made where it does not exist."})
    out: str | None = field(
        default=None, metadata={"help": "Folder to build the repository in. Default: RUN/published."}
    )
    results: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Results of `lclipseg evaluate`, files or folders, the leading one first. Default: "
            "RUN/evaluation.json."
        },
    )
    facts: str | None = field(
        default=None,
        metadata={
            "help": "YAML file with what the card should say besides: licences, purpose, limits; see "
            "configuration/cards. Default: the facts of the data set, where they are known."
        },
    )
    onnx: str | None = field(default=None, metadata={"help": "Folder of an exported model, to be published as onnx/."})
    space: str | None = field(
        default=None,
        metadata={"help": "OWNER/NAME of a Space that serves the model (scripts/space); the card links to it."},
    )
    revision: str = field(default="main", metadata={"help": "Branch to publish on; it is made where there is none."})
    private: bool = field(default=False, metadata={"help": "Make the repository a private one."})
    dry_run: bool = field(default=False, metadata={"help": "Build the folder and list it, but upload nothing."})

    def __post_init__(self) -> None:
        for option, name in (("--repo", self.repo), ("--space", self.space)):
            parts = [] if name is None else name.split("/")
            if name is not None and (len(parts) != 2 or not all(map(PART.fullmatch, parts))):
                raise InputError(
                    f"{option} {name}: give OWNER/NAME, for example org/street: each of letters, digits, -, _ and ., "
                    "with a letter, digit or _ at both ends, without -- and .., 96 at most"
                )
        if not BRANCH.fullmatch(self.revision) or self.revision.startswith("refs/"):
            raise InputError(f"--revision {self.revision}: give the name of a branch, for example main")
