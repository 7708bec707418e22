"""The photographs of the demo: words chosen for each, side by side."""

import numpy as np
from PIL import Image

from lclipseg.console.paths import project
from lclipseg.lab.words import demo_overlay
from lclipseg.lab.words.demo_overlay import WORDS, DemoArguments, side_by_side


def test_image_in_the_documents_is_what_the_demo_makes(tmp_path, capsys):
    demo_overlay.main(DemoArguments(out=str(tmp_path / "made" / "overlay.png")))
    with Image.open(tmp_path / "made" / "overlay.png") as made, Image.open(project("docs/demo/overlay.png")) as kept:
        assert made.size == kept.size
        # Another version of torch may decide a pixel on a border otherwise.
        assert (np.asarray(made) == np.asarray(kept)).all(axis=2).mean() > 0.97
    said = capsys.readouterr().out
    assert all(f"{name}: " in said for name in WORDS)


def test_images_of_several_heights_are_aligned_at_the_top():
    row = side_by_side([Image.new("RGB", (2, 3), (9, 9, 9)), Image.new("RGB", (4, 1), (5, 5, 5))])
    assert row.size == (6, 3)
    assert row.getpixel((2, 0)) == (5, 5, 5) and row.getpixel((2, 1)) == (255, 255, 255)
