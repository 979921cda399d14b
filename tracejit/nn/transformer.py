"""Multi-head attention and the transformer's layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from tracejit.ir.types import bool_

from ..device import check
from ..locations import at_user_line
from ..ops import creation, elementwise, linalg, manipulation, reduction
from ..promotion import as_tensor
from ..tensor import Parameter, Tensor
from . import functional, init
from .container import ModuleList
from .dropout import Dropout
from .functional.attention import attention_weights, causal_mask
from .linear import Linear
from .module import Module
from .normalization import LayerNorm


class MultiheadAttention(Module):
    """Attention of ``num_heads`` heads (Vaswani et al., 2017), with projections before and after.

    ``in_proj_weight``, of shape ``(3 embed_dim, embed_dim)``, projects queries, keys and values; where the keys or
    values have other extents, ``kdim`` or ``vdim``, there are three weights instead.

    >>> import tracejit as tj
    >>> attention = MultiheadAttention(8, 2, batch_first=True)
    >>> x = tj.ones(3, 5, 8)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if device is not None:
            check(device)
        if embed_dim <= 0 or num_heads <= 0:
            message = "embed_dim and num_heads must be greater than 0, got "
            raise at_user_line(ValueError(f"{message}embed_dim={embed_dim} and num_heads={num_heads} instead"))
        if embed_dim % num_heads:
            raise at_user_line(AssertionError("embed_dim must be divisible by num_heads"))
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim

        def weight(rows: int, columns: int) -> Parameter:
            return Parameter(creation.empty(rows, columns, dtype=dtype))

        alike = self.kdim == embed_dim and self.vdim == embed_dim
        self.in_proj_weight = weight(3 * embed_dim, embed_dim) if alike else None
        self.q_proj_weight = None if alike else weight(embed_dim, embed_dim)
        self.k_proj_weight = None if alike else weight(embed_dim, self.kdim)
        self.v_proj_weight = None if alike else weight(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(creation.empty(3 * embed_dim, dtype=dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the starting values anew."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """``(L, N, E)``, ``(S, N, kdim)`` and ``(S, N, vdim)`` → ``(L, N, E)`` and the weights, ``(N, L, S)``.

        ``(N, L, E)`` with ``batch_first``, ``(L, E)`` without a batch.  A bool ``attn_mask``, of shape ``(L, S)`` or
        ``(N num_heads, L, S)``, is true where a query may *not* look, and so is ``key_padding_mask``, ``(N, S)``; float
        ones are added.  ``is_causal`` lets query ``i`` look at keys up to ``i``.  Without
        ``average_attn_weights`` the weights are ``(N, num_heads, L, S)``; without ``need_weights`` there are none.
        """
        q, k, v = (as_tensor(item, "MultiheadAttention") for item in (query, key, value))
        single = q.ndim == 2
        if q.ndim not in (2, 3) or k.ndim != q.ndim or v.ndim != q.ndim:
            message = f"query should be unbatched 2D or batched 3D tensor but received {q.ndim}-D query tensor"
            raise at_user_line(AssertionError(message))
        if q.shape[-1] != self.embed_dim:
            message = f"was expecting embedding dimension of {self.embed_dim}, but got {q.shape[-1]}"
            raise at_user_line(AssertionError(message))
        if single:
            q, k, v = (manipulation.expand_dims(x, 0) for x in (q, k, v))
            if key_padding_mask is not None:
                key_padding_mask = manipulation.expand_dims(key_padding_mask, 0)
        elif not self.batch_first:
            q, k, v = (manipulation.transpose(x, 0, 1) for x in (q, k, v))
        q, k, v = (self._heads(x) for x in self._projected(q, k, v))
        mask = self._mask(attn_mask, key_padding_mask, is_causal, q.shape, k.shape[-2])
        weights = attention_weights(q, k, mask)
        dropped = functional.dropout(weights, self.dropout) if self.dropout and self.training else weights
        mixed = manipulation.transpose(linalg.matmul(dropped, v), 1, 2)  # (N, L, H, E / H)
        output = self.out_proj(manipulation.reshape(mixed, (*mixed.shape[:2], self.embed_dim)))
        shown = reduction.mean(weights, 1) if average_attn_weights else weights
        if single:
            output, shown = manipulation.squeeze(output, 0), manipulation.squeeze(shown, 0)
        elif not self.batch_first:
            output = manipulation.transpose(output, 0, 1)
        return output, shown if need_weights else None

    def _projected(self, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        size = self.embed_dim
        if self.in_proj_weight is None:
            weights: list[Any] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        elif q is k and k is v:
            joint = functional.linear(q, self.in_proj_weight, self.in_proj_bias)
            return [joint[..., i * size : (i + 1) * size] for i in range(3)]
        else:
            weights = [self.in_proj_weight[i * size : (i + 1) * size] for i in range(3)]
        bias = self.in_proj_bias
        biases = [None if bias is None else bias[i * size : (i + 1) * size] for i in range(3)]
        return [functional.linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        """``(N, L, E)`` → ``(N, H, L, E / H)``."""
        apart = manipulation.reshape(x, (*x.shape[:2], self.num_heads, self.head_dim))
        return manipulation.transpose(apart, 1, 2)

    def _mask(
        self, attn_mask: Any, padding: Any, is_causal: bool, queries: tuple[int, ...], keys: int
    ) -> Tensor | None:
        """All masks as one, ``(…, L, S)``: true where a query may look, or what is added to the scores."""
        batch, heads, length, _ = queries
        masks: list[Tensor] = []
        if attn_mask is not None:
            mask = as_tensor(attn_mask, "attn_mask")
            expected = ((length, keys), (batch * heads, length, keys))
            if mask.shape not in expected:
                message = f"The shape of the attn_mask is {mask.shape}, but should be {expected[0]} or {expected[1]}."
                raise at_user_line(RuntimeError(message))
            if mask.ndim == 3:
                mask = manipulation.reshape(mask, (batch, heads, length, keys))
            masks.append(mask)
        elif is_causal:
            masks.append(elementwise.logical_not(causal_mask(length, keys)))
        if padding is not None:
            mask = as_tensor(padding, "key_padding_mask")
            if mask.shape != (batch, keys):
                message = f"expected key_padding_mask.shape to be {(batch, keys)}, but got {mask.shape}"
                raise at_user_line(RuntimeError(message))
            masks.append(manipulation.reshape(mask, (batch, 1, 1, keys)))
        if not masks:
            return None
        if all(mask.dtype == bool_ for mask in masks):
            hidden = masks[0] if len(masks) == 1 else elementwise.logical_or(*masks)
            return elementwise.logical_not(hidden)
        added = [elementwise.where(mask, -math.inf, 0.0) if mask.dtype == bool_ else mask for mask in masks]
        return added[0] if len(added) == 1 else added[0] + added[1]


_ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": functional.relu, "gelu": functional.gelu}


def _activation(choice: str | Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    if not isinstance(choice, str):
        return choice
    if choice not in _ACTIVATIONS:
        raise at_user_line(RuntimeError(f"activation should be relu/gelu, not {choice}"))
    return _ACTIVATIONS[choice]


class TransformerEncoderLayer(Module):
    """Self-attention, then a network of one hidden layer, each with a residual connection and a layer norm.

    The norms come after (Vaswani et al., 2017), or before with ``norm_first``.

    >>> import tracejit as tj
    >>> layer = TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    >>> layer(tj.ones(3, 5, 8)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        common: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **common)
        self.linear1 = Linear(d_model, dim_feedforward, **common)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **common)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, **common)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, **common)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """``(L, N, d_model)`` (``(N, L, d_model)`` with ``batch_first``) → the same shape."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            x = src + self._attention(self.norm1(src), *masks)
            return x + self._network(self.norm2(x))
        x = self.norm1(src + self._attention(src, *masks))
        return self.norm2(x + self._network(x))

    def _attention(self, x: Tensor, mask: Any, padding: Any, is_causal: bool) -> Tensor:
        found, _ = self.self_attn(x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)
        return self.dropout1(found)

    def _network(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """``num_layers`` copies of a layer, one after the other, then ``norm`` if given.

    >>> import tracejit as tj
    >>> layer = TransformerEncoderLayer(8, 2, dim_feedforward=16)
    >>> TransformerEncoder(layer, 2)(tj.ones(5, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Tensor:
        """``(L, N, d_model)`` → the same shape."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


__all__ = ["MultiheadAttention", "TransformerEncoder", "TransformerEncoderLayer"]
