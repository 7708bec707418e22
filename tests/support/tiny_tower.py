"""A text tower of a few kilobytes."""

import string
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

LETTERS = string.ascii_lowercase
TOKENS = ["<|startoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|endoftext|>"]


def tiny_tokenizer(tokens=TOKENS) -> CLIPTokenizer:
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def tiny_tower(**overrides) -> CLIPTextModelWithProjection:
    torch.manual_seed(0)
    tower = CLIPTextModelWithProjection(tiny_text_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in tower.parameters():  # as initialised, all words have almost the same vector
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tower


def save_tower(folder: Path, **overrides) -> Path:
    tiny_tower(**overrides).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_text_config(**overrides) -> CLIPTextConfig:
    end = len(TOKENS) - 1
    fields = {"vocab_size": len(TOKENS), "bos_token_id": 0, "eos_token_id": end, "pad_token_id": end}
    fields |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    fields |= {"max_position_embeddings": 16, "projection_dim": 8}
    return CLIPTextConfig(**{**fields, **overrides})


# Every letter, inside and at the end of a word: any word can be spelled, as with CLIP's bytes.
