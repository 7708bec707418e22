"""Label maps as what labelling tools start from: COCO's JSON, and Label Studio's predictions."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

BRUSH_SIZES = (4, 8, 12, 16)  # bits of a run's length less one in Label Studio's strokes
LONGEST_RUN = 1 << BRUSH_SIZES[-1]


class Preannotations(ABC):
    """A file for all images of a call; a class is one object of an image."""

    file_name: ClassVar[str]

    @abstractmethod
    def add(self, image: str, label_map: np.ndarray, id2label: Mapping[int, str]) -> None:
        """Add an image: its path and the class ids of its pixels, `(height, width)`."""

    @abstractmethod
    def content(self) -> Any:
        """What is written, for JSON."""

    def save(self, out: Path) -> Path:
        path = out / self.file_name
        path.write_text(json.dumps(self.content(), ensure_ascii=False), encoding="utf-8")
        return path


class CocoAnnotations(Preannotations):
    """COCO's JSON with run lengths, which CVAT and others read; category ids count from 1."""

    file_name = "annotations.coco.json"

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: dict[int, str] = {}

    def add(self, image: str, label_map: np.ndarray, id2label: Mapping[int, str]) -> None:
        height, width = label_map.shape
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": image, "width": width, "height": height})
        self.categories.update(id2label)
        for class_id in _shown(label_map, id2label):
            covered = label_map == class_id
            rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": number,
                    "category_id": class_id + 1,
                    "segmentation": {"size": [height, width], "counts": _runs(covered.T.ravel())},
                    "area": int(covered.sum()),
                    "bbox": [int(side) for side in box],
                    "iscrowd": 0,
                }
            )

    def content(self) -> Any:
        categories = [{"id": class_id + 1, "name": name} for class_id, name in sorted(self.categories.items())]
        return {"images": self.images, "categories": categories, "annotations": self.annotations}


class LabelStudioPredictions(Preannotations):
    """Tasks with predictions: brush strokes for `<Image name="image"/>` and `<BrushLabels name="label"/>`."""

    file_name = "predictions.label-studio.json"

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []

    def add(self, image: str, label_map: np.ndarray, id2label: Mapping[int, str]) -> None:
        height, width = label_map.shape
        regions = [
            {
                "id": f"{len(self.tasks) + 1}-{class_id}",
                "type": "brushlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": brush(label_map == class_id), "brushlabels": [id2label[class_id]]},
            }
            for class_id in _shown(label_map, id2label)
        ]
        self.tasks.append({"data": {"image": image}, "predictions": [{"result": regions}]})

    def content(self) -> Any:
        return self.tasks


PREANNOTATIONS: dict[str, Callable[[], Preannotations]] = {
    "coco": CocoAnnotations,
    "label-studio": LabelStudioPredictions,
}


def _shown(label_map: np.ndarray, id2label: Mapping[int, str]) -> list[int]:
    """The classes with pixels; those of no class have no id there, or 255 in a mask that was read again."""
    return [class_id for class_id in np.unique(label_map).tolist() if class_id in id2label]


def _runs(covered: np.ndarray) -> list[int]:
    """Lengths of runs of equal values, the first of them of `False`."""
    ends = np.flatnonzero(np.diff(covered, append=~covered[-1:])) + 1
    lengths: list[int] = np.diff(ends, prepend=0).tolist()
    return [0, *lengths] if covered[0] else lengths


def brush(covered: np.ndarray) -> list[int]:
    """
    A brush stroke of Label Studio's, as bytes.

    Args:
        covered (`numpy.ndarray` of shape `(height, width)`, bool): its pixels.
    """
    head = f"{4 * covered.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in BRUSH_SIZES)
    bits = head + "".join(_brush_runs(covered.ravel()))
    return np.packbits(np.frombuffer(bits.encode(), dtype=np.uint8) - ord("0")).tolist()


def _brush_runs(covered: np.ndarray) -> Iterator[str]:
    """Each run as the bits of "equal values", which size, the length less one, and the value, of four channels."""
    for index, length in enumerate(_runs(covered)):
        value = 255 * (index % 2)
        for start in range(0, 4 * length, LONGEST_RUN):
            less_one = min(4 * length - start, LONGEST_RUN) - 1
            size = next(number for number, bits in enumerate(BRUSH_SIZES) if less_one < 1 << bits)
            yield f"1{size:02b}{less_one:0{BRUSH_SIZES[size]}b}{value:08b}"
