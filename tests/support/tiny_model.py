"""Networks small enough for a test."""

from pathlib import Path

import torch

from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation, LClipSegImageProcessor

TINY_BACKBONE = {"model_type": "timm_backbone", "backbone": "mobilenetv3_small_050", "out_indices": [1, 2, 3, 4]}
RESNET = {  # of few operations
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
TINY_TEXT = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 16,
    "projection_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "bos_token_id": 22,
    "eos_token_id": 23,
}
NAMES = ["sky", "road", "car"]


def tiny_config(**overrides) -> LClipSegConfig:
    fields = {
        "backbone_config": dict(TINY_BACKBONE),
        "class_embed_dim": 32,
        "hidden_size": 16,
        "num_fusion_layers": 1,
        "num_attention_heads": 2,
        "decoder_hidden_size": 16,
        "text_model_name_or_path": None,
        "id2label": dict(enumerate(NAMES)),
    }
    return LClipSegConfig(**{**fields, **overrides})


def tiny_model(**overrides) -> LClipSegForSemanticSegmentation:
    """In eval mode, with random weights and class embeddings."""
    torch.manual_seed(0)
    model = LClipSegForSemanticSegmentation(tiny_config(**overrides)).eval()
    if model.head.takes_text:
        model.set_classes(NAMES, torch.randn(len(NAMES), model.config.class_embed_dim))
    return model


def save_checkpoint(
    folder: Path, model: LClipSegForSemanticSegmentation | None = None, shortest_edge: int | None = None
) -> Path:
    """Save the tiny model, or another one, with a processor of a shorter side, or that keeps images' size."""
    sizes = {"do_resize": False} if shortest_edge is None else {"size": {"shortest_edge": shortest_edge}}
    (model or tiny_model()).save_pretrained(folder)
    LClipSegImageProcessor(**sizes).save_pretrained(folder)
    return folder


def assert_equal_logits(found: torch.Tensor, expected: torch.Tensor):
    """Against their own size: an untrained classifier's logits are far below any absolute tolerance."""
    torch.testing.assert_close(found, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)
