"""Embeddings: a learned vector for each index."""

from __future__ import annotations

from typing import Any

from ..autograd.modes import no_grad
from ..device import check
from ..locations import at_user_line
from ..ops import creation
from ..tensor import Parameter, Tensor
from . import functional, init
from .module import Module


class _Table(Module):
    """A table of vectors, and how it is looked up."""

    weight: Parameter

    def _set_up(
        self,
        rows: int,
        columns: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Tensor | None,
        device: str | None,
        dtype: Any,
    ) -> None:
        if device is not None:
            check(device)
        if sparse:
            raise at_user_line(NotImplementedError(f"{type(self).__name__}: there are no sparse gradients"))
        if padding_idx is not None and not -rows <= padding_idx < rows:
            name = "Padding_idx" if isinstance(self, Embedding) else "padding_idx"
            raise at_user_line(AssertionError(f"{name} must be within num_embeddings"))
        self.num_embeddings, self.embedding_dim = rows, columns
        self.padding_idx = None if padding_idx is None else padding_idx % rows
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        if weight is None:
            self.weight = Parameter(creation.empty(rows, columns, dtype=dtype))
            self.reset_parameters()
        else:
            if weight.shape != (rows, columns):
                message = "Shape of weight does not match num_embeddings and embedding_dim"
                raise at_user_line(AssertionError(message))
            self.weight = Parameter(weight)

    def reset_parameters(self) -> None:
        """Draw the starting values anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def _settings(self, *names: str) -> str:
        usual = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "mode": None}
        shown = [f"{name}={value!r}" for name in names if (value := getattr(self, name)) != usual[name]]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}", *shown])


class Embedding(_Table):
    """A table of ``num_embeddings`` vectors, ``weight`` of shape ``(num_embeddings, embedding_dim)``.

    They start normal, of variance 1.  The vector ``padding_idx`` starts at zero and gets no gradient; the other
    settings are those of :func:`.functional.embedding`.

    >>> import tracejit as tj
    >>> layer = Embedding(10, 3, padding_idx=0)
    >>> layer(tj.tensor([[1, 2, 0], [4, 3, 0]])).shape
    (2, 3, 3)
    >>> layer
    Embedding(10, 3, padding_idx=0)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        settings = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device, dtype)
        self._set_up(num_embeddings, embedding_dim, *settings)
        self.weight.requires_grad_(not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An embedding with the given table, which is not trained if ``freeze``.

        >>> import tracejit as tj
        >>> Embedding.from_pretrained(tj.tensor([[1.0], [2.0]]))(tj.tensor([1]))
        tensor([[2.]])
        """
        if embeddings.ndim != 2:
            raise at_user_line(AssertionError("Embeddings parameter is expected to be 2-dimensional"))
        rows, columns = embeddings.shape
        settings: Any = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings.detach(), freeze)
        return cls(rows, columns, *settings)

    def forward(self, input: Any) -> Tensor:
        """Indices ``(…)`` → ``(…, embedding_dim)``."""
        settings = (self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)
        return functional.embedding(input, self.weight, *settings)

    def extra_repr(self) -> str:
        return self._settings("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")


class EmbeddingBag(_Table):
    """The sums, means or largest elements of bags of :class:`Embedding`'s vectors.

    See :func:`.functional.embedding_bag`.

    >>> import tracejit as tj
    >>> EmbeddingBag(10, 3, mode="sum")(tj.tensor([[1, 2, 0], [4, 3, 0]])).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        settings = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device, dtype)
        self._set_up(num_embeddings, embedding_dim, *settings)
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """An embedding bag with the given table, which is not trained if ``freeze``."""
        if embeddings.ndim != 2:
            raise at_user_line(AssertionError("Embeddings parameter is expected to be 2-dimensional"))
        rows, columns = embeddings.shape
        settings: Any = (max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings.detach())
        settings += (include_last_offset, padding_idx)
        layer = cls(rows, columns, *settings)
        layer.weight.requires_grad_(not freeze)
        return layer

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        """Indices ``(B, N)``, or flat ones with ``offsets`` ``(B,)`` → ``(B, embedding_dim)``."""
        return functional.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode, False,
            per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return self._settings("max_norm", "norm_type", "scale_grad_by_freq", "mode", "padding_idx")


__all__ = ["Embedding", "EmbeddingBag"]
