"""From the size of an image to the size that the model sees: one rule, asked before the model and after it.

Nothing here needs torch, so that an exported model can be run without it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Size = tuple[int, int]  # height, width
SizeDict = Any  # transformers' class of that name, or a `dict[str, int]` as it stands in a file
EDGES = ({"shortest_edge", "longest_edge"}, {"shortest_edge"}, {"longest_edge"})
SIDES = ({"height", "width"},)


@dataclass(frozen=True)
class Sizing:
    """
    How images are scaled, and then padded at the bottom and right to a common size. They keep their aspect ratio,
    unless `fixed` gives both sides.

    Args:
        shortest_edge (`int`, *optional*): The shorter side is scaled to this many pixels,
        longest_edge (`int`, *optional*): or less, where the longer side would exceed this. Neither: no scaling.
        fixed (`tuple[int, int]`, *optional*): Height and width that every image is stretched to, in place of these.
        do_pad (`bool`): Whether to pad. Without it all images of a batch must have one size.
        pad_size (`tuple[int, int]`, *optional*): A fixed height and width to pad to.
        divisor (`int`): Otherwise the height and width of the batch, rounded up to a multiple of this.
    """

    shortest_edge: int | None
    longest_edge: int | None
    fixed: Size | None
    do_pad: bool
    pad_size: Size | None
    divisor: int

    @classmethod
    def from_settings(
        cls,
        do_resize: bool | None,
        size: SizeDict | None,
        do_pad: bool | None,
        pad_size: SizeDict | None,
        pad_size_divisor: int | None,
        **other_settings: Any,
    ) -> "Sizing":
        """
        From the settings of an image processor, of which the others are left aside.

        Raises:
            ValueError: a size in another form, or a number of pixels below 1.
        """
        edges = _pixels("size", size, EDGES + SIDES)
        padded = _pixels("pad_size", pad_size, SIDES)
        divisor = 1 if pad_size_divisor is None else pad_size_divisor
        if divisor < 1:
            raise ValueError(f"`pad_size_divisor` must be at least 1, but is {divisor}.")
        if do_resize and not edges:
            raise ValueError("`do_resize` needs a `size` such as {'shortest_edge': 512, 'longest_edge': 2048}.")
        return cls(
            shortest_edge=edges.get("shortest_edge") if do_resize else None,
            longest_edge=edges.get("longest_edge") if do_resize else None,
            fixed=(edges["height"], edges["width"]) if do_resize and "height" in edges else None,
            do_pad=bool(do_pad),
            pad_size=(padded["height"], padded["width"]) if padded else None,
            divisor=divisor,
        )

    def resized(self, height: int, width: int) -> Size:
        """Height and width of an image after scaling, in pixels, each at least 1."""
        if self.fixed is not None:
            return self.fixed
        scales = [1.0] if self.shortest_edge is None and self.longest_edge is None else []
        if self.shortest_edge is not None:
            scales.append(self.shortest_edge / min(height, width))
        if self.longest_edge is not None:
            scales.append(self.longest_edge / max(height, width))
        return max(1, round(height * min(scales))), max(1, round(width * min(scales)))

    def padded(self, sizes: Sequence[Size]) -> Size:
        """
        The common size of a batch.

        Args:
            sizes (sequence of `tuple[int, int]`): Height and width of every image of the batch after scaling.

        Raises:
            ValueError: different sizes without padding, or an image that is larger than `pad_size`.
        """
        height, width = max(height for height, _ in sizes), max(width for _, width in sizes)
        if not self.do_pad:
            if len(set(sizes)) > 1:
                raise ValueError(
                    "With do_pad=False all images of a batch must have one size after resizing, but these have "
                    f"{sorted(set(sizes))} (height, width); leave do_pad on, or process them one by one."
                )
            return height, width
        if self.pad_size is None:
            return math.ceil(height / self.divisor) * self.divisor, math.ceil(width / self.divisor) * self.divisor
        if height > self.pad_size[0] or width > self.pad_size[1]:
            raise ValueError(
                f"Images of up to {(height, width)} (height, width) do not fit into pad_size {self.pad_size}; raise "
                "pad_size or lower size."
            )
        return self.pad_size


def _pixels(argument: str, given: SizeDict | None, allowed: Sequence[set[str]]) -> dict[str, int]:
    pixels = {} if given is None else dict(given)
    if pixels and (set(pixels) not in allowed or min(pixels.values()) < 1):
        forms = " or ".join(str(dict.fromkeys(sorted(keys, reverse=True), "pixels")) for keys in allowed)
        raise ValueError(f"`{argument}` must be {forms}, with at least 1 pixel each, but is {pixels}.")
    return pixels


__all__ = ["Size", "Sizing"]
