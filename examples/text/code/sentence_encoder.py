"""The encoder of all-MiniLM-L6-v2 in plain torch: BERT's layers, the mean over the words, and a projection.

The names of the weights are those of the published file, so that it can be loaded as it is.
"""

import torch
from torch import nn

WORDS, PLACES, WIDTH, INNER, HEADS, LAYERS = 30_522, 512, 384, 1_536, 12, 6
EPS = 1e-12


class SentenceEncoder(nn.Module):
    """Sentences to vectors of length 1, so that the scalar product of two is their cosine.

    Args:
        dimensions: of the vectors. With fewer than 384 the last step is a projection, which has to be fitted.

    Input: `input_ids`, int64 of shape (N, L), L at most 512; `attention_mask`, int64 of the same shape, 1 for words and
    0 for padding. Output: float32 of shape (N, dimensions).
    """

    def __init__(self, dimensions: int = WIDTH) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.projection = nn.Linear(WIDTH, dimensions) if dimensions < WIDTH else nn.Identity()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return one vector per sentence."""
        return nn.functional.normalize(self.projection(self.mean_of_words(input_ids, attention_mask)), dim=1)

    def mean_of_words(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return what is projected, float32 of shape (N, 384)."""
        hidden = self.embeddings(input_ids)
        seen = attention_mask[:, None, None, :].bool()
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, seen)
        weight = attention_mask.to(hidden.dtype)[:, :, None]
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)


class Embeddings(nn.Module):
    """What a word is, and where it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, WIDTH)
        self.position_embeddings = nn.Embedding(PLACES, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPS)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (N, L, 384)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        what = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(what + self.position_embeddings(places))


class Layer(nn.Module):
    """One layer of BERT."""

    def __init__(self) -> None:
        super().__init__()
        own = {name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(own), "output": Residual(WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, INNER)})
        self.output = Residual(INNER)

    def forward(self, hidden: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Let each word look at those that are `seen`, a mask of shape (N, 1, 1, L)."""
        own = self.attention["self"]
        query, key, value = (
            own[name](hidden).unflatten(2, (HEADS, -1)).transpose(1, 2) for name in ("query", "key", "value")
        )
        looked = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        hidden = self.attention["output"](looked.transpose(1, 2).flatten(2), hidden)
        return self.output(nn.functional.gelu(self.intermediate["dense"](hidden)), hidden)


class Residual(nn.Module):
    """A layer whose output is added to what came before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPS)

    def forward(self, new: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Return the sum, normalised."""
        return self.LayerNorm(self.dense(new) + before)
