"""Text-guided semantic segmentation at phone size: data, training, prediction, export, serving, publishing.

In Python, `lclipseg.train(...)` and `lclipseg.segment(...)`; see api.py. Importing this package imports nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lclipseg.api import Segmentation, segment, train

__all__ = ["Segmentation", "segment", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lclipseg import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
