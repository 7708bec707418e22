"""The demo: a page on which a visitor names classes and sees them in an image.

    python scripts/space/app.py --model checkpoints/lclipseg-lite0-everyday
    python scripts/space/app.py --model checkpoints/lclipseg-lite0-everyday checkpoints/lclipseg-mbv3s-everyday

Two or more checkpoints are shown side by side, over the same image and the same classes. As a Space it takes the same
from the variables LCLIPSEG_MODEL, LCLIPSEG_REVISION and LCLIPSEG_BANK.
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
from demo import MAX_CLASSES, MAX_LETTERS, Segmentation, SegmentationDemo
from view import View

FOLDER = Path(__file__).resolve().parent
EXAMPLES = {
    "A street": [str(FOLDER / "examples" / "street.jpg"), "sky, building, road, tree, grass, car, pole"],
    "A cup": [str(FOLDER / "examples" / "coffee.jpg"), "dining table, cup"],
    "A cat": [str(FOLDER / "examples" / "cat.jpg"), "cat, background"],
}
DEFAULT_MODEL = "lclipseg/lclipseg-lite0-everyday"
SESSION_SECONDS = 3600  # after which a visitor's images are deleted
FONTS = ("system-ui", "sans-serif")  # of the visitor's machine: no page of ours calls a font server

LEAST_SCORES = (-5.0, 15.0)  # logits; the lowest stands for "any"

TITLE = "LClipSeg: name your classes, get a map of them"
HONEST = (
    "A model that takes any word does not know every word: this one was trained on a closed set of classes. Words "
    "close to those work; other words get pixels all the same, mostly wrong ones. It is not open vocabulary."
)
CLOSED = "This checkpoint is bound to the classes it was trained on and takes no others."
EVERY_PIXEL = (
    "Every pixel gets one of the classes given, so name what else is in the image, too, or set a least score."
)


class Page:
    """The page's parts, and what happens when they are used.

    Args:
        demos ([`SegmentationDemo`]s): the checkpoints, of which the first says which classes and words are offered.
    """

    def __init__(self, demos: Sequence[SegmentationDemo]):
        self.demo = demos[0]
        with gr.Blocks(title="LClipSeg", delete_cache=(SESSION_SECONDS, SESSION_SECONDS)) as self.blocks:
            caveat = f"{HONEST} {EVERY_PIXEL}" if self.demo.open_vocabulary else CLOSED
            gr.HTML(markup.heading(TITLE, [demo.source for demo in demos], caveat), apply_default_css=False)
            with gr.Row():
                with gr.Column(scale=5):
                    self._build_inputs()
                with gr.Column(scale=7):
                    self.notice = gr.HTML(apply_default_css=False, elem_id="notice")
                    with gr.Row():
                        self.views = [View(demo, number, SESSION_SECONDS) for number, demo in enumerate(demos)]
            self._connect()

    def _build_inputs(self) -> None:
        demo = self.demo
        self.image = gr.Image(
            label="Image", type="filepath", height=320, sources=["upload", "clipboard", "webcam"], elem_id="image"
        )
        self.classes = gr.Textbox(
            demo.own_text,
            label="Classes, separated by commas",
            placeholder=f"Nothing here: the {len(demo.own_names)} classes that the checkpoint was trained on.",
            lines=2,
            max_lines=8,
            max_length=MAX_LETTERS,
            interactive=demo.open_vocabulary,
            elem_id="classes",
        )
        self.chosen = gr.Dropdown(
            demo.known_words,
            value=[],
            multiselect=True,
            label="More classes, from the words it knows",
            info="Type to search.",
            max_choices=MAX_CLASSES,
            num_choices_shown=None,
            visible=bool(demo.known_words),
            elem_id="bank",
        )
        inputs = [self.image, self.classes] if demo.open_vocabulary else [self.image]
        self.examples = gr.Examples(
            [example[: len(inputs)] for example in EXAMPLES.values()],
            inputs=inputs,
            example_labels=list(EXAMPLES),
            label="No image at hand?",
            api_visibility="private",
        )
        with gr.Row():
            self.run = gr.Button("Segment", variant="primary", elem_id="run")
            self.reset = gr.Button("Reset classes", visible=demo.open_vocabulary, elem_id="reset")
        self.least = gr.Slider(
            *LEAST_SCORES,
            value=LEAST_SCORES[0],
            step=0.5,
            label="Least score",
            info="Where the best class scores less, none is shown. All the way down: every pixel gets a class.",
            elem_id="least",
        )
        self.opacity = gr.Slider(0, 1, value=0.6, step=0.05, label="Opacity", elem_id="opacity")
        self.legend = gr.Checkbox(False, label="Legend inside the image", elem_id="legend")

    def _connect(self) -> None:
        look = [self.least, self.opacity, self.legend]
        segmentation: dict[str, Any] = {
            "fn": self.segment,
            "inputs": [self.image, self.classes, self.chosen, *look],
            "outputs": [self.notice, *(part for view in self.views for part in view.outputs)],
            # Gradio itself would open the file, before its size is checked, and tell the visitor nothing of its fault.
            "preprocess": False,
            "api_visibility": "private",
            "concurrency_id": "network",  # one at a time, whoever asks
            "concurrency_limit": 1,
        }
        self.run.click(**segmentation, scroll_to_output=True)
        self.classes.submit(**segmentation)
        self.examples.load_input_event.then(**segmentation)
        for control in look:
            control.input(
                self.show,
                inputs=[*look, *(view.result for view in self.views)],
                outputs=[part for view in self.views for part in view.shown],
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            )
        self.reset.click(
            lambda: (self.demo.own_text, []), outputs=[self.classes, self.chosen], api_visibility="private"
        )

    def segment(
        self, image: dict[str, Any] | None, classes: str, chosen: Sequence[str], least: float, *look: Any
    ) -> list[Any]:
        """A notice, and of every view what it shows: nothing where its checkpoint cannot use the input."""
        shown, said = [], []
        for view in self.views:
            try:
                shown += view.segment(image and image["path"], classes, chosen, given(least), *look)
            except ValueError as error:
                shown += [None, None, "", ""]
                said += [str(error)]
        return ["".join(map(markup.notice, dict.fromkeys(said))), *shown]

    def show(self, least: float, opacity: float, legend: bool, *results: Segmentation | None) -> list[Any]:
        """The overlays and shares of what was segmented last; no network runs."""
        pairs = zip(self.views, results, strict=True)
        return [part for view, result in pairs for part in view.show(result, given(least), opacity, legend)]


def given(least: float) -> float | None:
    """The least score that was chosen; `None` where the slider is all the way down."""
    return least if least > LEAST_SCORES[0] else None


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment = os.environ.get
    parser.add_argument(
        "--model",
        nargs="+",
        default=environment("LCLIPSEG_MODEL", DEFAULT_MODEL).split(),
        help="Folders of checkpoints, or OWNER/NAME on the Hub; several are compared (default: %(default)s).",
    )
    parser.add_argument(
        "--revision",
        default=environment("LCLIPSEG_REVISION"),
        help="Branch, tag or commit of the one model on the Hub.",
    )
    parser.add_argument(
        "--bank",
        default=environment("LCLIPSEG_BANK"),
        help="Word bank with vectors of further words: FILE.safetensors or FILE.safetensors#KEY (default: the "
        "everyday words that come with the page).",
    )
    parser.add_argument("--port", type=int, help="Port of the page (default: the first free one from 7860).")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = argument_parser()
    args = parser.parse_args(argv)
    if args.revision and len(args.model) > 1:
        parser.error(f"--revision is of one model, but --model names {len(args.model)}")
    try:
        demos = [SegmentationDemo(Checkpoint(model, args.revision), args.bank) for model in args.model]
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    Page(demos).blocks.launch(
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
