"""The encoder: the lower layers of multilingual-e5-small (a BERT), mean pooling over tokens, one linear layer to seven logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """Of a model. `labels` is the number of logits."""

    vocabulary: int
    hidden: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    positions: int = 512
    eps: float = 1e-12
    labels: int = 7


class Layer(nn.Module):
    """One layer: attention, then a wide middle, each added to what came in and normalised after (as BERT does)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.hidden, 3 * sizes.hidden)
        self.out = nn.Linear(sizes.hidden, sizes.hidden)
        self.norm1 = nn.LayerNorm(sizes.hidden, sizes.eps)
        self.widen = nn.Linear(sizes.hidden, sizes.inner)
        self.narrow = nn.Linear(sizes.inner, sizes.hidden)
        self.norm2 = nn.LayerNorm(sizes.hidden, sizes.eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [batch, tokens, hidden]; mask [batch, 1, 1, tokens], True where there is a token."""
        batch, tokens, hidden = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        seen = self.out(seen.transpose(1, 2).reshape(batch, tokens, hidden))
        x = self.norm1(x + seen)
        made: Tensor = self.norm2(x + self.narrow(functional.gelu(self.widen(x))))
        return made


class Encoder(nn.Module):
    """input_ids, attention_mask (int64 [batch, tokens]) -> logits (float32 [batch, labels]).

    `dropout` is that of the pooled vector, while training; the layers have none: an epoch or two do not overfit them.
    """

    def __init__(self, sizes: Sizes, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = sizes
        self.dropout = dropout
        self.words = nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.positions = nn.Embedding(sizes.positions, sizes.hidden)
        self.norm = nn.LayerNorm(sizes.hidden, sizes.eps)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.head = nn.Linear(sizes.hidden, sizes.labels)

    def freeze(self, layers: int) -> None:
        """Train neither embeddings nor the lowest `layers`: rare pieces keep what they meant, and a step is cheaper."""
        for part in (self.words, self.positions, self.norm, *list(self.layers)[:layers]):
            part.requires_grad_(False)

    def embedded(self, input_ids: Tensor) -> Tensor:
        """[batch, tokens, hidden], before the first layer."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        made: Tensor = self.norm(self.words(input_ids) + self.positions(places))
        return made

    def pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean of the last layer over the tokens that are there: [batch, hidden]."""
        x = self.embedded(input_ids)
        there = attention_mask.bool()[:, None, None, :]
        for layer in self.layers:
            x = layer(x, there)
        weight = attention_mask.to(x.dtype)[:, :, None]
        return (x * weight).sum(1) / weight.sum(1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        pooled = self.pooled(input_ids, attention_mask)
        logits: Tensor = self.head(functional.dropout(pooled, self.dropout, self.training)).float()
        return logits
