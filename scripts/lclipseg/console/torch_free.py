"""What of the model package needs no torch, imported without the package, whose own import needs torch.

`import modeling_lclipseg` registers the Auto classes, and so brings torch and transformers: 15 seconds and 800 MB on a
small machine. Its files that images, sizes, names and overlays need take none of that. They are imported here under
their own names, so that each of them is loaded once, whether the package is imported before, afterwards or never.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PACKAGE = "modeling_lclipseg"


@contextmanager
def _without_the_package() -> Iterator[None]:
    """Inside, modules of the package are found in its folder, and the package itself is not run."""
    spec = importlib.util.find_spec(PACKAGE) if PACKAGE not in sys.modules else None
    if spec is None:  # it is imported already; or there is none, which the imports below say
        yield
        return
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[PACKAGE]


with _without_the_package():
    from modeling_lclipseg.inputs_lclipseg import to_mask, to_rgb_image
    from modeling_lclipseg.names_lclipseg import (
        SHORTEST_CENTER,
        check_bank_tower,
        check_bank_width,
        check_class_names,
        check_cosines,
        check_lengths,
        closest,
        fold_name,
        quoted,
        read_bank,
        some,
        unfamiliar,
    )
    from modeling_lclipseg.opening_lclipseg import open_image
    from modeling_lclipseg.sizing_lclipseg import Size, Sizing
    from modeling_lclipseg.visualization_lclipseg import (
        ClassShare,
        class_palette,
        class_segments,
        class_shares,
        draw_overlay,
        to_indexed_image,
    )

__all__ = [
    "SHORTEST_CENTER",
    "ClassShare",
    "Size",
    "Sizing",
    "check_bank_tower",
    "check_bank_width",
    "check_class_names",
    "check_cosines",
    "check_lengths",
    "class_palette",
    "class_segments",
    "class_shares",
    "closest",
    "draw_overlay",
    "fold_name",
    "open_image",
    "quoted",
    "read_bank",
    "some",
    "to_indexed_image",
    "to_mask",
    "to_rgb_image",
    "unfamiliar",
]
