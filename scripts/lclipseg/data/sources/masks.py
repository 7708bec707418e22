"""Readers of masks in files of their own: images and MATLAB matrices, to class ids."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from PIL import Image

from lclipseg.console.errors import InputError, naming
from lclipseg.data.labelled import UnreadableError
from lclipseg.data.sources.numbering import Numbering
from modeling_lclipseg.inputs_lclipseg import to_mask
from modeling_lclipseg.opening_lclipseg import open_image


def decoded(file: Path) -> Image.Image:
    """A decoded image file. Raises [`UnreadableError`] if it is none."""
    try:
        return open_image(file)
    except ValueError as error:
        raise UnreadableError(str(error)) from error


class MaskReader(ABC):
    """Reads the masks of one part of a split."""

    @abstractmethod
    def read(self, mask: Path, image: Path) -> np.ndarray:
        """
        Args:
            mask (`Path`): the file with the mask.
            image (`Path`): the image that it belongs to.

        Returns:
            `numpy.ndarray` of shape `(H, W)`, uint8: class ids, 255 where the pixel is ignored.

        Raises:
            [`InputError`]: the file cannot be read, or holds what is no class; it names the file.
        """


class ImageMasks(MaskReader):
    """Image files: indexed, grey of 8 or 16 bits, or coloured, as the numbering says."""

    def __init__(self, numbering: Numbering):
        self.numbering = numbering

    def read(self, mask: Path, image: Path) -> np.ndarray:
        drawn = decoded(mask)
        if self.numbering.is_coloured:
            return self.numbering.ids(np.asarray(drawn.convert("RGB")), str(mask))
        try:
            return self.numbering.ids(to_mask(drawn), str(mask))
        except ValueError as error:
            raise InputError(naming(mask, error)) from error


class MatrixMasks(MaskReader):
    """MATLAB files (to version 7) with a matrix of numbers."""

    def __init__(self, numbering: Numbering, matrix: str):
        self.numbering, self.matrix = numbering, matrix

    def read(self, mask: Path, image: Path) -> np.ndarray:
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise InputError(f"{mask}: MATLAB files are read by the library SciPy: pip install scipy") from error
        try:
            content = loadmat(mask, variable_names=[self.matrix])
        except Exception as error:  # SciPy raises nearly anything on a damaged file
            raise UnreadableError(f"{mask}: cannot be read: {error}") from error
        if self.matrix not in content:
            raise InputError(f"{mask} has no matrix {self.matrix!r}")
        return self.numbering.ids(np.asarray(content[self.matrix]), str(mask))
