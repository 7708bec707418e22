"""The whole of ADE20K: one image, NAME_seg.png and NAME.json each, with more than 3,000 classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.imports.export import Export, ExportedImage, in_order, member
from lclipseg.data.imports.source import Source
from lclipseg.data.sources.masks import decoded

MASK_SUFFIX = "_seg.png"


class WholeAde20kExport(Export):
    """
    Red and green of a mask tell the class: red // 10 * 256 + green; the JSON file has its name. Parts of objects are
    not read. Names are as published, synonyms and all: "person, individual, someone, ...". As there are more than a
    mask can hold, --keep names those that are wanted; what is not named is not labelled.
    """

    name = "ade20k-full"
    title = "the whole of ADE20K"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        first = next((path for path in source.files if path.name.endswith(MASK_SUFFIX)), None)
        return first is not None and _json_of(first).is_file()

    def read(self) -> list[ExportedImage]:
        masks = sorted(path for path in self.source.files if path.name.endswith(MASK_SUFFIX))
        if not masks:
            raise InputError(f"{self.source.given} holds no masks NAME{MASK_SUFFIX}")
        images = []
        for mask in masks:
            file = _json_of(mask)
            content, where = self.source.json(file), self.source.shown(file)
            annotation = member(content, "annotation", dict, where)
            names = {}
            for index, each in enumerate(member(annotation, "object", list, where)):
                of_object = f"{where}, object {index + 1}"
                names[member(each, "name_ndx", int, of_object)] = member(each, "name", str, of_object).strip()
            self.classes += names.values()
            image = self.source.image(f"{file.stem}.jpg", mask.parent, self.source.shown(mask))
            images.append(ExportedImage(image, where, (mask, names), self.source.folder_split(mask)))
            self.classes = in_order(self.classes)
        return images

    def draw(self, image: ExportedImage, height: int, width: int, ids: Mapping[str, int], rest: int) -> np.ndarray:
        path, names = image.annotation
        pixels = np.asarray(decoded(path).convert("RGB")).astype(np.int64)
        if pixels.shape[:2] != (height, width):
            raise InputError(f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, its image {width} x {height}")
        numbers = pixels[..., 0] // 10 * 256 + pixels[..., 1]
        mask = np.full((height, width), rest, dtype=np.uint8)
        for number in np.unique(numbers).tolist():
            if number == 0:  # what nobody has labelled
                continue
            if number not in names:
                raise InputError(f"{path} shows the class {number}, which {image.where} does not name")
            mask[numbers == number] = ids.get(names[number], IGNORE_INDEX)
            self.findings.objects[names[number]] += 1
        return mask


def _json_of(mask: Path) -> Path:
    return mask.with_name(f"{mask.name.removesuffix(MASK_SUFFIX)}.json")
