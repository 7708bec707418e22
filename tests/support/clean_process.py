"""Load published checkpoints as strangers do: run by `python -I` in another folder, without this project.

Each line of the input is JSON: `sources` are repositories or folders, `offline` is said to the library for the Hub.
Writes what every Auto class and the pipeline gave to the file `out`, by source, and for the first one what they gave
for the folder that the loaded parts were saved to. The code of a repository's card is run, too. The answer is 0.
"""

import sys

for ours in ("modeling_lclipseg", "lclipseg", "scripts"):
    sys.modules[ours] = None  # type: ignore[assignment]  # an import now fails, also where the project is installed


def load(source: str, again: bool) -> dict:
    import tempfile

    import torch
    from PIL import Image
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForSemanticSegmentation,
        AutoProcessor,
        pipeline,
    )

    trust = {"trust_remote_code": True}
    image = Image.new("RGB", (96, 64), "green")
    base = AutoModel.from_pretrained(source, **trust)
    model = AutoModelForSemanticSegmentation.from_pretrained(source, **trust)
    image_processor = AutoImageProcessor.from_pretrained(source, **trust)
    processor = AutoProcessor.from_pretrained(source, **trust)
    segment = pipeline("image-segmentation", model=source, **trust)
    inputs = image_processor(image, return_tensors="pt")
    saved = {}
    if again:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            image_processor.save_pretrained(folder)
            saved = load(folder, again=False)
    # The pipeline of transformers itself takes no words.
    chosen = {"candidate_labels": ["car"]} if type(segment).__name__ == "LClipSegPipeline" else {}
    with torch.no_grad():
        return {
            "model_type": AutoConfig.from_pretrained(source, **trust).model_type,
            "classes": model.config.id2label,
            "modules": sorted({type(part).__module__ for part in (base, model, image_processor, processor, segment)}),
            "state": model.state_dict(),
            "base_state": base.state_dict(),
            "logits": model(**inputs).logits,
            "pixel_values": inputs["pixel_values"],
            "processor_pixel_values": processor(images=image, return_tensors="pt")["pixel_values"],
            "pipeline": type(segment).__name__,
            "labels": [one["label"] for one in segment(image)],
            "chosen": [one["label"] for one in segment(image, **chosen)],
            "saved": saved,
        }


def run_card(repository: str) -> dict:
    """The names that the code of the card leaves behind."""
    import re
    from pathlib import Path

    from huggingface_hub import hf_hub_download
    from PIL import Image

    Image.new("RGB", (96, 64), "green").save("photo.jpg")
    names: dict = {}
    for code in re.findall(
        r"```python\n(.*?)```", Path(hf_hub_download(repository, "README.md")).read_text(), re.DOTALL
    ):
        exec(code, names)
    return {"label_map": names["label_map"], "masks": len(names["masks"])}


def main() -> None:
    """Every line gets a fork of its own of this process, which has imported the libraries and nothing else."""
    import json
    import os

    import huggingface_hub.constants
    import timm  # noqa: F401
    import torch
    from transformers import CLIPTextModelWithProjection, TimmBackbone, pipeline  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            huggingface_hub.constants.HF_HUB_OFFLINE = job["offline"]
            found = {source: load(source, again=source == job["sources"][0]) for source in job["sources"]}
            for source in job["sources"]:
                found[source] |= {} if os.path.isdir(source) else run_card(source)
            torch.save(found, job["out"])
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


main()
