"""What the page does, without the page: from an image file and a list of words to a label map, a drawing, shares.

A model serves all visitors. It is never changed: the vectors of a visitor's classes go into each call.
"""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint import Checkpoint
from PIL import Image

MAX_PIXELS = 50_000_000  # of an image file; checked in its header
WORKING_SIDE = 1600  # pixels; larger images are scaled down to this longer side, to be drawn and sent quickly
MAX_CLASSES = 256  # their ids fit into a byte
MAX_LETTERS = 5000  # of the list of classes
SHOWN_CLASSES = 20  # a longer list of a checkpoint's own is not written out for the visitor
NO_CLASS = -1  # the id of a pixel that is none of the classes
SHIPPED_WORDS = Path(__file__).with_name("words.safetensors")


class Stopwatch:
    """Seconds by stage, in the order of the stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap was spent on `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All that is needed to draw a result again.

    Args:
        image (`PIL.Image.Image`): upright, RGB, at most `WORKING_SIDE` long.
        label_map (`np.ndarray` of shape `(height, width)`): class ids, uint8.
        scores (`np.ndarray` of shape `(height, width)`): the logit of that class, float16.
        names (`tuple[str, ...]`): the classes, by id.
        seconds (`dict[str, float]`): time taken, by stage.
    """

    image: Image.Image
    label_map: np.ndarray
    scores: np.ndarray
    names: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    def above(self, least: float | None) -> np.ndarray:
        """The label map with [`NO_CLASS`] where the best class scores less than `least`; `None`: all pixels count."""
        return self.label_map if least is None else np.where(self.scores >= least, self.label_map, np.int16(NO_CLASS))


class SegmentationDemo:
    """
    Args:
        checkpoint ([`Checkpoint`]): the model; shared, so never changed.
        bank (`str`, *optional*): word bank with further words: `FILE.safetensors` or `FILE.safetensors#key`. By
            default the everyday words beside this file, where they are of the checkpoint's text tower.

    Raises:
        ValueError: a word bank that cannot be read or is another text tower's, or that comes with a model which takes
            no other classes.
    """

    def __init__(self, checkpoint: Checkpoint, bank: str | None = None):
        self.source = checkpoint.source
        self.model = checkpoint.model
        self.image_processor = checkpoint.image_processor
        self._check_class_names = checkpoint.part("class_embeddings_lclipseg.check_class_names")
        self._fold_name = checkpoint.part("class_embeddings_lclipseg.fold_name")
        self._open_image = checkpoint.part("opening_lclipseg.open_image")
        self._to_rgb_image = checkpoint.part("inputs_lclipseg.to_rgb_image")
        self._draw_overlay = checkpoint.part("visualization_lclipseg.draw_overlay")
        self.class_shares = checkpoint.part("visualization_lclipseg.class_shares")
        self.class_palette = checkpoint.part("visualization_lclipseg.class_palette")
        self.own_names: list[str] = list(self.model.config.class_names)
        self._bank = self._further_words(checkpoint, bank)

    @property
    def open_vocabulary(self) -> bool:
        """Whether the model takes other classes than its own."""
        return self.model.open_vocabulary

    @property
    def own_text(self) -> str:
        """The checkpoint's own classes as a visitor would write them; where they are many, nothing."""
        return write_names(self.own_names) if len(self.own_names) <= SHOWN_CLASSES else ""

    @property
    def known_words(self) -> list[str]:
        """The words that have a vector and are not written out already, sorted."""
        own = self.own_names if self.open_vocabulary and not self.own_text else []
        return sorted([*own, *(() if self._bank is None else self._bank.names)], key=str.casefold)

    def class_list(self, text: str, chosen: Sequence[str] = ()) -> list[str]:
        """
        The classes that a visitor asked for: those written, then those chosen from the word bank; the checkpoint's own
        where there are none.

        Args:
            text (`str`): names separated by commas or line breaks, see [`read_names`].
            chosen (sequence of `str`): words of the word bank; one that is written as well counts once.

        Raises:
            ValueError: too many classes, too long a text, or a name that is written twice.
        """
        if len(text) > MAX_LETTERS:
            raise ValueError(f"The list of classes has {len(text):,} letters; at most {MAX_LETTERS:,} are read.")
        written = read_names(text)
        known = {self._fold_name(name) for name in written}
        asked = [*written, *(word for word in chosen if self._fold_name(word) not in known)]
        names = self._check_class_names(asked or self.own_names)
        if len(names) > MAX_CLASSES:
            raise ValueError(f"There are {len(names)} classes; give at most {MAX_CLASSES}.")
        return names

    @torch.no_grad()
    def segment(self, path: str | None, text: str, chosen: Sequence[str] = ()) -> Segmentation:
        """
        Segment an image file.

        Args:
            path (`str` or `None`): the file.
            text, chosen: the classes, see [`class_list`].

        Raises:
            ValueError: no file, one that cannot be used, or classes that cannot be used. The message is for visitors.
        """
        watch = Stopwatch()
        image = self._read(path)
        watch.lap("reading")
        names = self.class_list(text, chosen)
        vectors = self._class_embeddings(names)
        watch.lap("class embeddings")
        pixel_values = self.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        watch.lap("preparing")
        outputs = self.model(pixel_values=pixel_values, class_embeddings=vectors)
        watch.lap("network")
        size = (image.height, image.width)
        (label_map,) = self.image_processor.post_process_semantic_segmentation(outputs, [size])
        best = replace(
            outputs, logits=outputs.logits.amax(1, keepdim=True)
        )  # enlarged as one class, it takes no memory
        (scored,) = self.image_processor.post_process_semantic_segmentation(best, [size], True)
        scores = scored.segmentation_scores[0].half().numpy()
        watch.lap("label map")
        return Segmentation(image, label_map.numpy().astype(np.uint8), scores, tuple(names), watch.seconds)

    def draw(
        self, segmentation: Segmentation, least: float | None = None, opacity: float = 0.6, legend: bool = False
    ) -> Image.Image:
        """The image under its classes in colour; no network runs. See [`Segmentation.above`] and `draw_overlay`."""
        return self._draw_overlay(
            segmentation.image, segmentation.above(least), segmentation.id2label, opacity=opacity, legend=legend
        )

    def _read(self, path: str | None) -> Image.Image:
        if path is None:
            raise ValueError("There is no image yet: upload, paste or take one, or choose the example.")
        try:
            image = self._to_rgb_image(self._open_image(path, MAX_PIXELS))
        except ValueError as error:  # a visitor knows the file by its name, not by where the server keeps it
            raise ValueError(str(error).replace(str(path), Path(path).name)) from error
        image.thumbnail((WORKING_SIDE, WORKING_SIDE))
        return image

    def _class_embeddings(self, names: list[str]) -> torch.Tensor | None:
        """`None` stands for the vectors in the checkpoint, which every model has."""
        return None if names == self.own_names else self.model.find_class_embeddings(names, self._bank)

    def _further_words(self, checkpoint: Checkpoint, bank: str | None) -> Any:
        """The word bank without the checkpoint's own classes: they keep their vectors, whatever is added to them."""
        word_bank = checkpoint.part("word_bank_lclipseg.WordBank")
        full = word_bank.load(SHIPPED_WORDS if bank is None else bank)
        config = self.model.config
        if bank is None:
            theirs = (full.text_model, tuple(full.prompt_templates))
            if not self.open_vocabulary or theirs != (config.text_model_name_or_path, tuple(config.prompt_templates)):
                return None
        self.model.find_class_embeddings(full.names[:1], full)  # is it of the model's text tower?
        own = {self._fold_name(name) for name in self.own_names}
        rows = [row for row, name in enumerate(full.names) if self._fold_name(name) not in own]
        if not rows:
            return None
        return word_bank(tuple(full.names[row] for row in rows), full.embeddings[rows], full.text_model)


def read_names(text: str) -> list[str]:
    """Names separated by commas or line breaks; blank ones are left out. `"a, b"` in quotes is one name."""
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


def write_names(names: Sequence[str]) -> str:
    """The text that [`read_names`] reads as these names."""
    return ", ".join('"' + name.replace('"', '""') + '"' if set(name) & set(',"\r\n') else name for name in names)
