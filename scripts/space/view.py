"""Where the page shows what one checkpoint finds."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import markup
from demo import Segmentation, SegmentationDemo, Stopwatch


class View:
    """
    The parts of the page that are one checkpoint's.

    Args:
        demo ([`SegmentationDemo`]): the checkpoint.
        number (`int`): its place on the page, from 0.
        kept (`int`): seconds after which a visitor's result is deleted.
    """

    def __init__(self, demo: SegmentationDemo, number: int, kept: int):
        def part(name: str) -> dict[str, str]:
            return {"elem_id": f"{name}-{number}" if number else name, "elem_classes": name}

        self.demo = demo
        self.result = gr.State(None, time_to_live=kept)
        with gr.Column(min_width=320):
            self.overlay = gr.Image(
                label=demo.source.rstrip("/").rsplit("/", 1)[-1],
                format="jpeg",
                interactive=False,
                buttons=["download", "fullscreen"],
                alt_text="The image with its classes in colour",
                **part("overlay"),
            )
            self.shares = gr.HTML(apply_default_css=False, **part("shares"))
            self.timings = gr.HTML(apply_default_css=False, **part("timings"))

    @property
    def shown(self) -> list[Any]:
        """What [`show`] fills."""
        return [self.overlay, self.shares]

    @property
    def outputs(self) -> list[Any]:
        """What [`segment`] fills."""
        return [self.result, *self.shown, self.timings]

    def segment(
        self, path: str | None, classes: str, chosen: Sequence[str], least: float | None, opacity: float, legend: bool
    ) -> tuple[Segmentation | None, Any, str, str]:
        """
        Result, overlay, shares and timings.

        Raises:
            ValueError: an image or classes that cannot be used.
        """
        result = self.demo.segment(path, classes, chosen)
        watch = Stopwatch()
        overlay, shares = self.show(result, least, opacity, legend)
        watch.lap("drawing")
        return result, overlay, shares, markup.timings({**result.seconds, **watch.seconds})

    def show(self, result: Segmentation | None, least: float | None, opacity: float, legend: bool) -> tuple[Any, str]:
        """Overlay and shares of what was segmented last; the network does not run."""
        if result is None:
            return None, ""
        shares = self.demo.class_shares(result.above(least), result.id2label)
        table = markup.shares_table(shares, self.demo.class_palette(len(result.names)), result.names)
        return self.demo.draw(result, least, opacity, legend), table
