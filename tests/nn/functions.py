"""The functions that no layer stands for, with arguments: of :mod:`tracejit.nn.functional`, as PyTorch's."""

from __future__ import annotations

import numpy as np

from .layers import integers, normal, row, uniform

MASK = uniform(5, 6) < 0.5
Q, K, V = normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 2)
GRID = uniform(2, 3, 4, 2, low=-1.4, high=1.4)
VOLUME = uniform(2, 2, 3, 2, 3, low=-1.4, high=1.4)

FUNCTIONS = [
    row("affine_grid", (2, 3, 4, 5), align_corners=False, inputs=normal(2, 2, 3)),
    row("affine_grid", (2, 3, 4, 3), True, inputs=normal(2, 2, 3)),
    row("affine_grid", (2, 3, 4, 5, 2), False, inputs=normal(2, 3, 4)),
    *(
        row("grid_sample", mode, padding, align, inputs=(normal(2, 3, 5, 4), GRID))
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for align in (False, True)
    ),
    row("grid_sample", inputs=(normal(2, 3, 4, 5, 2), VOLUME), padding_mode="border", align_corners=False),
    row("grid_sample", mode="nearest", inputs=(normal(2, 3, 4, 5, 2), VOLUME), align_corners=True),
    row("interpolate", None, 0.4, "bilinear", antialias=True, inputs=normal(2, 3, 10, 9)),
    row("interpolate", (3, 12), None, "bicubic", antialias=True, inputs=normal(2, 3, 10, 9)),
    row("interpolate", (3, 12), None, "bicubic", align_corners=True, antialias=True, inputs=normal(2, 3, 10, 9)),
    *(row("interpolate", size, inputs=normal(1, 1, 7)) for size in (1, 2, 3, 5, 6, 13, 14, 20)),
    *(row("interpolate", size, None, "nearest-exact", inputs=normal(1, 1, 7)) for size in (1, 3, 6, 13, 14, 20)),
    *(row("interpolate", None, scale, inputs=normal(1, 1, 7)) for scale in (0.3, 0.5, 1.5, 2.9, 3.0)),
    row("pad", (1, 2), inputs=normal(2, 3)),
    row("pad", (1, -1, 0, 2), "constant", 0.5, inputs=normal(2, 3, 4)),
    row("pad", (1, 2, 0, 1), "reflect", inputs=normal(2, 3, 4)),
    row("pad", (1, 2, 0, 1, 3, 0), "replicate", inputs=normal(1, 2, 3, 4, 2)),
    row("pad", (3, 1), "circular", inputs=normal(2, 3)),
    row("pad", (-1, 1, -2, 1), "circular", inputs=normal(1, 3, 4, 4)),
    row("pad", (1, 0), value=7, inputs=integers(5, 2, 3)),
    row("normalize", inputs=normal(3, 4)),
    row("normalize", 1.0, 0, inputs=normal(3, 4)),
    row("normalize", 0.0, inputs=np.array([[0.5, 0.0, -2.0]])),
    row("cosine_similarity", dim=-2, inputs=(normal(1, 2, 3), normal(2, 1, 3))),
    row("gaussian_nll_loss", inputs=(normal(3, 4), normal(3, 4), uniform(3, low=0.5, high=2.0))),
    row("gaussian_nll_loss", inputs=(normal(3, 4), normal(3, 4), uniform(3, 1, low=0.5, high=2.0)), full=True),
    row("prelu", inputs=(np.array(-1.5), np.array([0.25]))),
    row("multi_margin_loss", inputs=(np.array(1.5), np.array(0))),
    row("one_hot", inputs=np.array([0, 2, 1])),
    row("one_hot", 5, inputs=np.array([[0, 2], [4, 1]])),
    row("scaled_dot_product_attention", inputs=(Q, K, V)),
    row("scaled_dot_product_attention", inputs=(Q, K, V), is_causal=True),
    row("scaled_dot_product_attention", inputs=(Q, K, V), scale=0.3),
    row("scaled_dot_product_attention", inputs=(Q, K, V, MASK)),
    row("scaled_dot_product_attention", inputs=(Q, K, V, np.where(MASK, 0.0, -1.0))),
    row("scaled_dot_product_attention", inputs=(normal(2, 4, 5, 4), normal(2, 2, 6, 4), normal(2, 2, 6, 2)),
        enable_gqa=True),
    row("gumbel_softmax", inputs=np.array([[0.0, 1e6, 1.0], [1e6, 0.0, 1.0]]), hard=True),
    row("rms_norm", (4,), inputs=normal(3, 4)),
]  # fmt: skip
