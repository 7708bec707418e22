"""The demo: a page on which a visitor names classes and sees them in an image.

    python scripts/space/app.py --model checkpoints/lclipseg-mbv3s-camvid --bank words.safetensors

As a Space it takes the same from the variables LCLIPSEG_MODEL, LCLIPSEG_REVISION and LCLIPSEG_BANK.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
import markup
from checkpoint import Checkpoint
from demo import MAX_CLASSES, MAX_LETTERS, Segmentation, SegmentationDemo, Stopwatch

FOLDER = Path(__file__).resolve().parent
EXAMPLES = sorted(map(str, (FOLDER / "examples").glob("*.jpg")))
DEFAULT_MODEL = "lclipseg/lclipseg-mbv3s-camvid"
SESSION_SECONDS = 3600  # after which a visitor's images are deleted
FONTS = ("system-ui", "sans-serif")  # of the visitor's machine: no page of ours calls a font server

TITLE = "LClipSeg: name your classes, get a map of them"
HONEST = (
    "A model that takes any word does not know every word: this one was trained on a closed set of classes. Words "
    "close to those work; other words get pixels all the same, mostly wrong ones. It is not open vocabulary."
)
CLOSED = "This checkpoint is bound to the classes it was trained on and takes no others."
EVERY_PIXEL = "Every pixel gets one of the classes given, so name what else is in the image, too."


class Page:
    """The page's parts, and what happens when they are used."""

    def __init__(self, demo: SegmentationDemo, model_name: str):
        self.demo = demo
        with gr.Blocks(title="LClipSeg", delete_cache=(SESSION_SECONDS, SESSION_SECONDS)) as self.blocks:
            caveat = f"{HONEST} {EVERY_PIXEL}" if demo.open_vocabulary else CLOSED
            gr.HTML(markup.heading(TITLE, model_name, caveat), apply_default_css=False)
            self.result = gr.State(None, time_to_live=SESSION_SECONDS)
            with gr.Row():
                with gr.Column(scale=5):
                    self._build_inputs()
                with gr.Column(scale=7):
                    self._build_outputs()
            self._connect()

    def _build_inputs(self) -> None:
        demo = self.demo
        self.image = gr.Image(
            label="Image", type="filepath", height=320, sources=["upload", "clipboard", "webcam"], elem_id="image"
        )
        self.examples = gr.Examples(EXAMPLES, inputs=self.image, label="No image at hand?", api_visibility="private")
        self.classes = gr.Textbox(
            demo.own_text,
            label="Classes, separated by commas",
            lines=2,
            max_lines=8,
            max_length=MAX_LETTERS,
            interactive=demo.open_vocabulary,
            elem_id="classes",
        )
        self.chosen = gr.Dropdown(
            demo.bank_words,
            value=[],
            multiselect=True,
            label="More classes, from the word bank",
            info="Type to search.",
            max_choices=MAX_CLASSES,
            num_choices_shown=None,
            visible=bool(demo.bank_words),
            elem_id="bank",
        )
        with gr.Row():
            self.run = gr.Button("Segment", variant="primary", elem_id="run")
            self.reset = gr.Button("Reset classes", visible=demo.open_vocabulary, elem_id="reset")

    def _build_outputs(self) -> None:
        self.notice = gr.HTML(apply_default_css=False, elem_id="notice")
        self.overlay = gr.Image(
            label="Classes in colour",
            format="jpeg",
            interactive=False,
            buttons=["download", "fullscreen"],
            alt_text="The image with its classes in colour",
            elem_id="overlay",
        )
        self.opacity = gr.Slider(0, 1, value=0.6, step=0.05, label="Opacity", elem_id="opacity")
        self.legend = gr.Checkbox(False, label="Legend inside the image", elem_id="legend")
        self.shares = gr.HTML(apply_default_css=False, elem_id="shares")
        self.timings = gr.HTML(apply_default_css=False, elem_id="timings")

    def _connect(self) -> None:
        segmentation: dict[str, Any] = {
            "fn": self.segment,
            "inputs": [self.image, self.classes, self.chosen, self.opacity, self.legend],
            "outputs": [self.result, self.overlay, self.shares, self.timings, self.notice],
            # Gradio itself would open the file, before its size is checked, and tell the visitor nothing of its fault.
            "preprocess": False,
            "api_visibility": "private",
            "concurrency_id": "network",  # one at a time, whoever asks
            "concurrency_limit": 1,
        }
        self.run.click(**segmentation, scroll_to_output=True)
        self.classes.submit(**segmentation)
        self.examples.load_input_event.then(**segmentation)
        for look in (self.opacity.input, self.legend.input):
            look(
                self.draw,
                inputs=[self.result, self.opacity, self.legend],
                outputs=self.overlay,
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            )
        self.reset.click(
            lambda: (self.demo.own_text, []), outputs=[self.classes, self.chosen], api_visibility="private"
        )

    def segment(
        self, image: dict[str, Any] | None, classes: str, chosen: Sequence[str], opacity: float, legend: bool
    ) -> tuple[Segmentation | None, Any, str, str, str]:
        """Result, overlay, shares, timings and notice; of these, only the notice where the input cannot be used."""
        try:
            result = self.demo.segment(image and image["path"], classes, chosen)
        except ValueError as error:
            return None, None, "", "", markup.notice(str(error))
        watch = Stopwatch()
        overlay = self.draw(result, opacity, legend)
        watch.lap("drawing")
        shares = self.demo.class_shares(result.label_map, result.id2label)
        table = markup.shares_table(shares, self.demo.class_palette(len(result.names)), result.names)
        return result, overlay, table, markup.timings({**result.seconds, **watch.seconds}), ""

    def draw(self, result: Segmentation | None, opacity: float, legend: bool) -> Any:
        """The overlay of what was segmented last; the network does not run."""
        return None if result is None else self.demo.draw(result, opacity, legend)


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment = os.environ.get
    parser.add_argument(
        "--model",
        default=environment("LCLIPSEG_MODEL", DEFAULT_MODEL),
        help="Folder of a checkpoint, or OWNER/NAME on the Hub (default: %(default)s).",
    )
    parser.add_argument(
        "--revision",
        default=environment("LCLIPSEG_REVISION"),
        help="Branch, tag or commit of a model on the Hub.",
    )
    parser.add_argument(
        "--bank",
        default=environment("LCLIPSEG_BANK"),
        help="Word bank with vectors of further words: FILE.safetensors or FILE.safetensors#KEY.",
    )
    parser.add_argument("--port", type=int, help="Port of the page (default: the first free one from 7860).")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser()
    args = parser.parse_args(argv)
    try:
        demo = SegmentationDemo(Checkpoint(args.model, args.revision), args.bank)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    page = Page(demo, args.model)
    page.blocks.launch(
        server_port=args.port,
        share=False,
        ssr_mode=False,
        max_file_size="50mb",
        footer_links=[],
        theme=gr.themes.Soft(font=FONTS, font_mono=("ui-monospace", "monospace")),
        css_paths=FOLDER / "style.css",
    )


if __name__ == "__main__":
    main()
