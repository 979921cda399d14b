"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.types import bool_, is_differentiable

from ..device import check
from ..locations import at_user_line
from ..ops import creation, elementwise, linalg, manipulation, reduction
from ..promotion import as_tensor
from ..tensor import Parameter, Tensor
from . import functional, init
from .functional.attention import attention_weights, causal_mask
from .linear import Linear
from .module import Module


class MultiheadAttention(Module):
    """Attention of ``num_heads`` heads (Vaswani et al., 2017), with projections before and after.

    ``in_proj_weight``, of shape ``(3 embed_dim, embed_dim)``, projects queries, keys and values; where the keys or
    values have other extents, ``kdim`` or ``vdim``, there are three weights instead.  ``add_bias_kv`` adds a learned
    key and value to all others, ``add_zero_attn`` zeros.

    >>> import tracejit as tj
    >>> attention = MultiheadAttention(8, 2, batch_first=True)
    >>> x = tj.ones(3, 5, 8)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
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
        self.bias_k = Parameter(creation.empty((1, 1, embed_dim), dtype=dtype)) if add_bias_kv else None
        self.bias_v = Parameter(creation.empty((1, 1, embed_dim), dtype=dtype)) if add_bias_kv else None
        self.add_zero_attn = add_zero_attn
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
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

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
        if k.shape[:-1] != v.shape[:-1]:
            message = f"key's sequence and batch dims {k.shape[:-1]} do not match value's {v.shape[:-1]}"
            raise at_user_line(AssertionError(message))
        if single and key_padding_mask is not None:
            key_padding_mask = manipulation.expand_dims(key_padding_mask, 0)
        projected = self._projected(q, k, v)
        if single:
            projected = [manipulation.expand_dims(x, 0) for x in projected]
        elif not self.batch_first:
            projected = [manipulation.transpose(x, 0, 1) for x in projected]
        length, keys = projected[0].shape[1], projected[1].shape[1]
        added = self._added(projected)
        q, k, v = (self._heads(x) for x in projected)
        mask = self._mask(attn_mask, key_padding_mask, is_causal, (q.shape[0], length, keys), added)
        weights = attention_weights(q, k, mask)
        if self.dropout and self.training:
            weights = functional.dropout(weights, self.dropout)
        mixed = manipulation.transpose(linalg.matmul(weights, v), 1, 2)  # (N, L, H, E / H)
        output = self.out_proj(manipulation.reshape(mixed, (*mixed.shape[:2], self.embed_dim)))
        if single:
            output = manipulation.squeeze(output, 0)
        elif not self.batch_first:
            output = manipulation.transpose(output, 0, 1)
        if not need_weights:
            return output, None
        shown = reduction.mean(weights, 1) if average_attn_weights else weights
        return output, manipulation.squeeze(shown, 0) if single else shown

    def _added(self, projected: list[Tensor]) -> int:
        """Put the learned key and value, and zeros, after the others (each ``(N, S, E)``); how many."""
        added = 0
        batch = (projected[0].shape[0], 1, self.embed_dim)
        if self.bias_k is not None and self.bias_v is not None:
            for place, bias in ((1, self.bias_k), (2, self.bias_v)):
                projected[place] = manipulation.concat([projected[place], manipulation.broadcast_to(bias, batch)], 1)
            added += 1
        if self.add_zero_attn:
            for place in (1, 2):
                zeros = creation.zeros(batch, dtype=projected[place].dtype)
                projected[place] = manipulation.concat([projected[place], zeros], 1)
            added += 1
        return added

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
        self, attn_mask: Any, padding: Any, is_causal: bool, extents: tuple[int, int, int], added: int
    ) -> Tensor | None:
        """All masks as one, ``(…, L, S)``: true where a query may look, or what is added to the scores.

        ``extents`` are the batch's, the queries' and the keys', of which ``added`` more may always be looked at.
        """
        batch, length, keys = extents
        masks: list[Tensor] = []
        if attn_mask is not None:
            mask = _mask_of(attn_mask, "attn_mask")
            expected = ((length, keys), (batch * self.num_heads, length, keys))
            if mask.shape not in expected:
                wanted = expected[mask.ndim == 3]
                message = f"The shape of the {mask.ndim}D attn_mask is {mask.shape}, but should be {wanted}."
                raise at_user_line(RuntimeError(message))
            if mask.ndim == 3:
                mask = manipulation.reshape(mask, (batch, self.num_heads, length, keys))
            masks.append(mask)
        elif is_causal:
            masks.append(elementwise.logical_not(causal_mask(length, keys)))
        if padding is not None:
            mask = _mask_of(padding, "key_padding_mask")
            if mask.shape != (batch, keys):
                message = f"expected key_padding_mask.shape to be {(batch, keys)}, but got {mask.shape}"
                raise at_user_line(RuntimeError(message))
            masks.append(manipulation.reshape(mask, (batch, 1, 1, keys)))
        if not masks:
            return None
        if added:
            masks = [manipulation.pad(mask, [*[(0, 0)] * (mask.ndim - 1), (0, added)]) for mask in masks]
        if all(mask.dtype == bool_ for mask in masks):
            hidden = masks[0] if len(masks) == 1 else elementwise.logical_or(*masks)
            return elementwise.logical_not(hidden)
        terms = [elementwise.where(mask, -math.inf, 0.0) if mask.dtype == bool_ else mask for mask in masks]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _mask_of(mask: Any, name: str) -> Tensor:
    found = as_tensor(mask, name)
    if found.dtype != bool_ and not is_differentiable(found.dtype):
        message = f"only bool and floating types of {name} are supported, got {found.dtype.name}"
        raise at_user_line(AssertionError(message))
    return found


__all__ = ["MultiheadAttention"]
