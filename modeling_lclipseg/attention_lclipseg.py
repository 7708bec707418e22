"""Multi-head attention through transformers' backends (eager, sdpa, flash, flex), for whatever is projected.

Notation: B batch, L queries, S keys, d width.
"""

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_lclipseg import LClipSegConfig


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Plain attention: (B, heads, L, d / heads) queries to (B, L, heads, d / heads) and weights (B, heads, L, S)."""
    weights = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class LClipSegAttention(nn.Module):
    """Multi-head attention between whatever its subclasses project: they supply queries, keys and values."""

    is_causal = False

    def __init__(self, config: LClipSegConfig, width: int, num_heads: int):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.head_dim = width // num_heads

    def heads(self, sequence: torch.Tensor) -> torch.Tensor:
        return sequence.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # (B, heads, L, d / heads)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,  # (B, 1, 1 or L, S), added to the weights before their softmax
        **kwargs,
    ):
        # No backend is asked to record: they warn that they cannot, and the maps that are asked for are the bridge's.
        kwargs = {name: option for name, option in kwargs.items() if not name.startswith("output_")}
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attention(
            self,
            self.heads(query),
            self.heads(key),
            self.heads(value),
            mask,
            scaling=self.head_dim**-0.5,
            dropout=0.0,
            **kwargs,
        )
        return output.flatten(2), weights  # (B, L, d), (B, heads, L, S)


__all__ = ["LClipSegAttention"]
