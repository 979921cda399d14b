"""Embedding: a learned vector for each index."""

from __future__ import annotations

from typing import Any

from ..autograd.modes import no_grad
from ..device import check
from ..locations import at_user_line
from ..ops import creation
from ..tensor import Parameter, Tensor
from . import functional, init
from .module import Module


class Embedding(Module):
    """A table of ``num_embeddings`` vectors, ``weight`` of shape ``(num_embeddings, embedding_dim)``.

    They start normal, of variance 1.  The vector ``padding_idx`` starts at zero and gets no gradient.

    >>> import tracejit as tj
    >>> layer = Embedding(10, 3, padding_idx=0)
    >>> layer(tj.tensor([[1, 2, 0], [4, 3, 0]])).shape
    (2, 3, 3)
    >>> layer
    Embedding(10, 3, padding_idx=0)
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        device: str | None = None,
        dtype: Any = None,
        *,
        _weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise at_user_line(ValueError("Padding_idx must be within num_embeddings"))
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        if _weight is None:
            self.weight = Parameter(creation.empty(num_embeddings, embedding_dim, dtype=dtype))
            self.reset_parameters()
        else:
            self.weight = Parameter(_weight)

    def reset_parameters(self) -> None:
        """Draw the starting values anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An embedding with the given table, which is not trained if ``freeze``.

        >>> import tracejit as tj
        >>> Embedding.from_pretrained(tj.tensor([[1.0], [2.0]]))(tj.tensor([1]))
        tensor([[2.]])
        """
        if embeddings.ndim != 2:
            raise at_user_line(ValueError("Embeddings parameter is expected to be 2-dimensional"))
        rows, columns = embeddings.shape
        layer = cls(rows, columns, padding_idx, _weight=embeddings.detach())
        layer.weight.requires_grad_(not freeze)
        return layer

    def forward(self, input: Any) -> Tensor:
        """Indices ``(…)`` → ``(…, embedding_dim)``."""
        return functional.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


__all__ = ["Embedding"]
