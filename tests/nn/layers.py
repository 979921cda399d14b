"""Every layer and loss with settings and inputs, for the tests against PyTorch and those of compiled training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracejit import nn

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    """Normal numbers."""
    return RNG.normal(size=shape)


def uniform(*shape: int, low: float = 0.05, high: float = 0.95) -> np.ndarray:
    """Numbers well within an interval, by default probabilities."""
    return RNG.uniform(low, high, shape)


def integers(high: int, *shape: int, low: int = 0) -> np.ndarray:
    """Indices."""
    return RNG.integers(low, high, shape)


def signs(*shape: int) -> np.ndarray:
    """Ones and minus ones, as floats that are no inputs to be differentiated: int64."""
    return RNG.integers(0, 2, shape) * 2 - 1


@dataclass(frozen=True)
class Row:
    """A layer, what it is made with, and what it is called with: arrays, of which the floating ones get gradients."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    draws: bool = False  # random numbers in training
    tolerance: float = 1e-9
    lazy: str = ""  # why Python code runs at each call of a jitted function: a part of explain()'s reason
    make: Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]] | None = None  # settings that need the library

    def __str__(self) -> str:
        settings = [*map(repr, self.args), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        keywords = [f"{key}={value!r}" for key, value in self.keywords.items() if not isinstance(value, np.ndarray)]
        return f"{self.name}({', '.join(settings + keywords)})"[:60]

    def layer(self, library: Any) -> Any:
        """The layer, of ``tracejit.nn`` or ``torch.nn``."""
        args, kwargs = (self.args, self.kwargs) if self.make is None else self.make(library)
        return getattr(library, self.name)(*args, **kwargs)


def row(name: str, *args: Any, inputs: Any, keywords: Any = None, **kwargs: Any) -> Row:
    """A row of the table; the settings of the layer are given as to the layer."""
    own = {key: kwargs.pop(key) for key in ("draws", "tolerance", "lazy", "make") if key in kwargs}
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return Row(name, args, kwargs, inputs, keywords or {}, **own)


def stacked(library: Any, decoder: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The settings of a transformer's encoder or decoder: they hold a layer."""
    kind = library.TransformerDecoderLayer if decoder else library.TransformerEncoderLayer
    return (kind(8, 2, 16, dropout=0.0), 2, library.LayerNorm(8)), {}


ACTIVATIONS = [
    row(name, inputs=normal(3, 6) * 3, tolerance=1e-7 if name == "Hardsigmoid" else 1e-9)  # PyTorch's / 6 is in float32
    for name in (
        "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid",
        "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh",
        "Tanhshrink",
    )
] + [
    row("CELU", 2.0, inputs=normal(3, 6) * 3),
    row("ELU", 0.5, inputs=normal(3, 6) * 3),
    row("GELU", "tanh", inputs=normal(3, 6)),
    row("GLU", 0, inputs=normal(4, 3)),
    row("Hardshrink", 1.0, inputs=normal(3, 6)),
    row("Hardtanh", -0.5, 2.0, inputs=normal(3, 6)),
    row("LeakyReLU", 0.2, inputs=normal(3, 6)),
    row("LogSoftmax", 0, inputs=normal(3, 6)),
    row("PReLU", 6, 0.1, inputs=normal(3, 6, 2)),
    row("RReLU", inputs=normal(3, 6), draws=True),
    row("RReLU", 0.25, 0.25, inputs=normal(3, 6)),
    row("Softmax", 1, inputs=normal(3, 6)),
    row("Softmax2d", inputs=normal(2, 3, 4, 5)),
    row("Softmin", 1, inputs=normal(3, 6)),
    row("Softplus", 2.0, 1.0, inputs=normal(3, 6) * 3),
    row("Softshrink", 1.0, inputs=normal(3, 6)),
    row("Threshold", 0.5, -1.0, inputs=normal(3, 6)),
]  # fmt: skip

PROJECTIONS = [
    row("Identity", inputs=normal(3, 4)),
    row("Linear", 3, 4, inputs=normal(5, 3)),
    row("Linear", 3, 4, False, inputs=normal(2, 5, 3)),
    row("Linear", 3, 4, inputs=normal(3)),
    row("Bilinear", 3, 4, 5, inputs=(normal(2, 6, 3), normal(2, 6, 4))),
    row("Bilinear", 3, 4, 5, bias=False, inputs=(normal(3), normal(4))),
    row("Embedding", 7, 3, inputs=integers(7, 2, 5)),
    row("Embedding", 7, 3, 2, inputs=integers(7, 2, 5)),
    row("Embedding", 7, 3, max_norm=0.5, inputs=integers(7, 2, 5)),
    row("Embedding", 7, 3, -1, 0.7, 1.0, True, inputs=integers(7, 2, 5)),
    row("EmbeddingBag", 7, 3, inputs=integers(7, 4, 5)),
    row("EmbeddingBag", 7, 3, mode="sum", inputs=(integers(7, 9), np.array([0, 3, 3, 7]))),
    row("EmbeddingBag", 7, 3, mode="mean", inputs=(integers(7, 9), np.array([0, 3, 3, 9]))),
    row("EmbeddingBag", 7, 3, mode="max", inputs=integers(7, 4, 5)),
    row("EmbeddingBag", 7, 3, mode="max", inputs=(integers(7, 9), np.array([0, 3, 3, 7]))),
    row("EmbeddingBag", 7, 3, mode="sum", inputs=integers(7, 4, 5), keywords={"per_sample_weights": normal(4, 5)}),
    row("EmbeddingBag", 7, 3, mode="sum", include_last_offset=True, inputs=(integers(7, 9), np.array([0, 4, 9]))),
    row("EmbeddingBag", 7, 3, padding_idx=2, inputs=(np.array([1, 2, 2, 2, 6]), np.array([0, 2, 4]))),
    row("EmbeddingBag", 7, 3, 0.6, inputs=integers(7, 4, 5)),
    row("Flatten", inputs=normal(2, 3, 4)),
    row("Flatten", 0, 1, inputs=normal(2, 3, 4)),
    row("Unflatten", 1, (2, -1), inputs=normal(2, 6)),
    row("Unfold", 2, inputs=normal(2, 3, 4, 5)),
    row("Unfold", (2, 3), dilation=(1, 2), padding=1, stride=2, inputs=normal(2, 3, 6, 7)),
    row("Fold", (4, 5), 2, inputs=normal(2, 12, 12)),
    row("Fold", (6, 7), (2, 3), dilation=(1, 2), padding=1, stride=2, inputs=normal(2, 18, 12)),
]  # fmt: skip

CONVOLUTIONS = [
    row("Conv1d", 4, 6, 3, inputs=normal(2, 4, 9)),
    row("Conv1d", 4, 6, 3, stride=2, padding=2, dilation=2, groups=2, inputs=normal(2, 4, 9)),
    row("Conv1d", 4, 6, 4, padding="same", padding_mode="circular", inputs=normal(2, 4, 9)),
    row("Conv1d", 4, 6, 3, inputs=normal(4, 9)),
    row("Conv2d", 3, 4, 3, padding=1, inputs=normal(2, 3, 6, 5)),
    row("Conv2d", 4, 8, (3, 2), stride=(2, 1), padding=(1, 0), groups=4, bias=False, inputs=normal(2, 4, 6, 5)),
    row("Conv2d", 3, 4, 3, padding=1, padding_mode="reflect", inputs=normal(3, 6, 5)),
    row("Conv2d", 3, 4, 3, padding=2, padding_mode="replicate", inputs=normal(1, 3, 6, 5)),
    row("Conv2d", 3, 4, 3, padding="valid", inputs=normal(1, 3, 6, 5)),
    row("Conv3d", 2, 3, 2, stride=2, inputs=normal(1, 2, 4, 5, 4)),
    row("ConvTranspose1d", 4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, inputs=normal(2, 4, 5)),
    row("ConvTranspose2d", 4, 3, 3, stride=2, dilation=2, inputs=normal(2, 4, 5, 4)),
    row("ConvTranspose2d", 4, 3, (2, 3), padding=(1, 0), bias=False, inputs=normal(4, 5, 4)),
    row("ConvTranspose3d", 2, 3, 2, stride=(1, 2, 1), inputs=normal(1, 2, 3, 4, 3)),
]

PADDING = [
    *(row(f"ConstantPad{n}d", 2, 0.5, inputs=normal(2, 3, 4, 5)) for n in (1, 2, 3)),
    *(row(f"ZeroPad{n}d", 1, inputs=normal(2, 3, 4, 5)) for n in (1, 2, 3)),
    row("ConstantPad2d", (1, -1, 0, 2), 0.5, inputs=normal(2, 3, 4)),
    *(
        row(f"{mode}Pad{n}d", tuple(range(2 * n))[::-1] if n < 3 else 2, inputs=normal(2, 2, *[6] * n))
        for mode in ("Reflection", "Replication", "Circular")
        for n in (1, 2, 3)
    ),
    row("ReflectionPad1d", 3, inputs=normal(2, 4)),
]

POOLING = [
    row("MaxPool1d", 3, stride=2, padding=1, inputs=normal(2, 3, 8)),
    row("MaxPool1d", 3, stride=2, padding=1, return_indices=True, inputs=normal(3, 8)),
    row("MaxPool2d", (2, 3), ceil_mode=True, inputs=normal(2, 3, 7, 7)),
    row("MaxPool2d", 2, stride=1, dilation=2, inputs=integers(2, 1, 2, 6, 6).astype(float)),
    row("MaxPool2d", 3, 2, 1, 1, True, inputs=integers(2, 1, 2, 6, 6).astype(float)),
    row("MaxPool3d", 2, padding=1, return_indices=True, inputs=normal(2, 3, 4, 5, 4)),
    row("MaxPool3d", (1, 2, 3), inputs=normal(3, 4, 5, 6)),
    row("MaxUnpool1d", 2, inputs=(normal(2, 3, 4), np.arange(4) * 2 + integers(2, 2, 3, 4))),
    row("MaxUnpool1d", 2, inputs=(normal(3, 4), np.arange(4) * 2 + integers(2, 3, 4)), keywords={"output_size": (9,)}),
    row("MaxUnpool2d", 2, inputs=(normal(1, 1, 2, 2), np.array([[[[5, 2], [8, 15]]]]))),
    row("MaxUnpool2d", 3, stride=2, padding=1, inputs=(normal(1, 1, 2, 2), np.array([[[[0, 2], [6, 8]]]]))),
    row("MaxUnpool3d", 2, inputs=(normal(1, 1, 1, 1, 2), np.array([[[[[5, 10]]]]]))),
    row("AvgPool1d", 3, stride=2, padding=1, inputs=normal(2, 3, 8)),
    row("AvgPool2d", 3, stride=2, padding=1, ceil_mode=True, inputs=normal(2, 3, 8, 7)),
    row("AvgPool2d", 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False, inputs=normal(3, 8, 7)),
    row("AvgPool2d", 3, divisor_override=2, inputs=normal(2, 3, 8, 7)),
    row("AvgPool3d", 2, inputs=normal(2, 3, 4, 5, 6)),
    row("AvgPool3d", (1, 2, 3), padding=(0, 1, 1), count_include_pad=False, inputs=normal(2, 4, 5, 6)),
    row("LPPool1d", 2, 3, stride=2, inputs=normal(2, 3, 8)),
    row("LPPool2d", 3, (2, 3), inputs=uniform(2, 3, 6, 7)),
    row("LPPool3d", 2, 2, ceil_mode=True, inputs=uniform(2, 3, 4, 5, 4)),
    row("AdaptiveAvgPool1d", 3, inputs=normal(2, 3, 8)),
    row("AdaptiveAvgPool2d", (3, None), inputs=normal(2, 3, 7, 5)),
    row("AdaptiveAvgPool2d", 1, inputs=normal(2, 3, 7, 5)),
    row("AdaptiveAvgPool3d", (2, 3, 1), inputs=normal(2, 3, 4, 5, 6)),
    row("AdaptiveMaxPool1d", 3, return_indices=True, inputs=normal(2, 3, 8)),
    row("AdaptiveMaxPool2d", (2, 3), inputs=normal(2, 3, 7, 6)),
    row("AdaptiveMaxPool2d", (2, 3), True, inputs=normal(3, 7, 6)),
    row("AdaptiveMaxPool3d", (2, 3, 1), return_indices=True, inputs=normal(2, 3, 4, 5, 6)),
]

RESAMPLING = [
    row("ChannelShuffle", 2, inputs=normal(2, 6, 3)),
    row("PixelShuffle", 2, inputs=normal(2, 8, 3, 4)),
    row("PixelUnshuffle", 2, inputs=normal(8, 4, 6)),
    row("Upsample", scale_factor=2, inputs=normal(2, 3, 4)),
    row("Upsample", 7, inputs=normal(2, 3, 4, 5)),
    row("Upsample", (7, 3), mode="nearest-exact", inputs=normal(2, 3, 4, 5)),
    row("Upsample", scale_factor=2.5, mode="linear", inputs=normal(2, 3, 4)),
    row("Upsample", (7, 3), mode="bilinear", inputs=normal(2, 3, 4, 5)),
    row("Upsample", scale_factor=(2, 1.7), mode="bilinear", align_corners=True, inputs=normal(2, 3, 4, 5)),
    row("Upsample", scale_factor=1.7, mode="bilinear", recompute_scale_factor=True, inputs=normal(2, 3, 4, 5)),
    row("Upsample", scale_factor=1.7, mode="bicubic", inputs=normal(2, 3, 4, 5)),
    row("Upsample", (2, 9), mode="bicubic", align_corners=True, inputs=normal(2, 3, 4, 5)),
    row("Upsample", (2, 9, 3), mode="trilinear", inputs=normal(2, 3, 4, 5, 2)),
    row("Upsample", (2, 4), mode="area", inputs=normal(2, 3, 4, 6)),
    row("UpsamplingNearest2d", scale_factor=2, inputs=normal(2, 3, 4, 5)),
    row("UpsamplingBilinear2d", (3, 7), inputs=normal(2, 3, 4, 5)),
]

NORMALIZATION = [
    row("BatchNorm1d", 4, inputs=normal(5, 4)),
    row("BatchNorm1d", 4, 1e-2, None, inputs=normal(5, 4, 3)),
    row("BatchNorm2d", 4, momentum=0.3, inputs=normal(2, 4, 3, 3)),
    row("BatchNorm2d", 4, affine=False, track_running_stats=False, inputs=normal(2, 4, 3, 3)),
    row("BatchNorm3d", 4, inputs=normal(2, 4, 3, 3, 2)),
    row("InstanceNorm1d", 4, inputs=normal(5, 4, 6)),
    row("InstanceNorm1d", 4, affine=True, inputs=normal(4, 6)),
    row("InstanceNorm2d", 4, 1e-3, 0.2, True, True, inputs=normal(2, 4, 3, 3)),
    row("InstanceNorm3d", 4, track_running_stats=True, inputs=normal(2, 4, 3, 2, 2)),
    row("LayerNorm", (3, 4), inputs=normal(2, 3, 4)),
    row("LayerNorm", 4, 1e-3, bias=False, inputs=normal(2, 3, 4)),
    row("LayerNorm", 4, elementwise_affine=False, inputs=normal(2, 3, 4)),
    row("RMSNorm", 4, inputs=normal(2, 3, 4)),
    row("RMSNorm", (3, 4), 1e-3, False, inputs=normal(2, 3, 4)),
    row("GroupNorm", 2, 4, inputs=normal(3, 4, 5)),
    row("GroupNorm", 4, 4, 1e-3, False, inputs=normal(3, 4, 5, 2)),
    row("LocalResponseNorm", 3, inputs=normal(2, 5, 4)),
    row("LocalResponseNorm", 4, 0.5, 0.6, 2.0, inputs=normal(2, 5, 4, 3)),
    *(row(name, 0.3, inputs=normal(4, 5), draws=True) for name in ("Dropout", "AlphaDropout")),
    *(row(f"Dropout{n}d", inputs=normal(4, 5, *[3] * n), draws=True) for n in (1, 2, 3)),
    row("FeatureAlphaDropout", inputs=normal(4, 5, 3), draws=True),
    *(row(name, 0.0, inputs=normal(4, 5)) for name in ("Dropout", "AlphaDropout")),
]

RECURRENT = [
    row("RNN", 3, 4, inputs=normal(5, 2, 3)),
    row("RNN", 3, 4, 2, "relu", False, inputs=normal(5, 3)),
    row("LSTM", 3, 4, 2, bidirectional=True, batch_first=True, inputs=normal(2, 5, 3)),
    row("LSTM", 3, 4, inputs=(normal(5, 2, 3), (normal(1, 2, 4), normal(1, 2, 4)))),
    row("LSTM", 3, 5, 2, proj_size=2, bidirectional=True, inputs=normal(4, 2, 3)),
    row("GRU", 3, 4, 2, bidirectional=True, inputs=(normal(5, 2, 3), normal(4, 2, 4))),
    row("GRU", 3, 4, 2, dropout=0.5, inputs=normal(5, 2, 3), draws=True),
    row("RNNCell", 3, 4, inputs=normal(2, 3)),
    row("RNNCell", 3, 4, False, "relu", inputs=(normal(3), normal(4))),
    row("LSTMCell", 3, 4, inputs=normal(2, 3)),
    row("LSTMCell", 3, 4, inputs=(normal(3), (normal(4), normal(4)))),
    row("GRUCell", 3, 4, inputs=(normal(2, 3), normal(2, 4))),
]

CAUSAL = np.triu(np.ones((5, 5), bool), 1)
PADDED = np.array([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
ATTENTION = [
    row("MultiheadAttention", 8, 2, inputs=(normal(5, 3, 8), normal(6, 3, 8), normal(6, 3, 8))),
    row("MultiheadAttention", 8, 2, inputs=(normal(5, 8), normal(6, 8), normal(6, 8))),
    row("MultiheadAttention", 8, 2, kdim=3, vdim=4, batch_first=True,
        inputs=(normal(3, 5, 8), normal(3, 6, 3), normal(3, 6, 4))),
    row("MultiheadAttention", 8, 2, add_bias_kv=True, add_zero_attn=True, bias=False, batch_first=True,
        inputs=(normal(3, 5, 8), normal(3, 5, 8), normal(3, 5, 8)),
        keywords={"attn_mask": CAUSAL, "key_padding_mask": PADDED, "average_attn_weights": False}),
    row("MultiheadAttention", 8, 2, inputs=(normal(5, 3, 8),) * 3,
        keywords={"attn_mask": np.where(CAUSAL, -1e3, 0.0), "need_weights": False}),
    row("TransformerEncoderLayer", 8, 2, 16, 0.0, inputs=normal(5, 3, 8)),
    row("TransformerEncoderLayer", 8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True, inputs=normal(3, 5, 8),
        keywords={"src_key_padding_mask": PADDED}),
    row("TransformerEncoderLayer", 8, 2, 16, 0.0, bias=False, inputs=normal(5, 8), keywords={"src_mask": CAUSAL}),
    row("TransformerEncoder", inputs=normal(5, 3, 8), make=lambda library: stacked(library, False)),
    row("TransformerDecoderLayer", 8, 2, 16, 0.0, inputs=(normal(5, 3, 8), normal(6, 3, 8))),
    row("TransformerDecoderLayer", 8, 2, 16, 0.0, "gelu", norm_first=True, batch_first=True,
        inputs=(normal(3, 5, 8), normal(3, 5, 8)),
        keywords={"tgt_mask": CAUSAL, "memory_key_padding_mask": PADDED}),
    row("TransformerDecoder", inputs=(normal(5, 3, 8), normal(6, 3, 8)), make=lambda library: stacked(library, True)),
    row("Transformer", 8, 2, 1, 2, 16, 0.0, batch_first=True, inputs=(normal(3, 6, 8), normal(3, 5, 8)),
        keywords={"tgt_mask": CAUSAL}),
    row("Transformer", 8, 2, 1, 1, 16, inputs=(normal(6, 3, 8), normal(5, 3, 8)), draws=True),
]  # fmt: skip

P, LABELS = uniform(3, 4), integers(4, 3)
SEQUENCES = np.array([[1, 2, 2, 4], [3, 1, 0, 0], [4, 4, 4, 4]])
LOSSES = [
    row("BCELoss", inputs=(P, uniform(3, 4))),
    row("BCEWithLogitsLoss", inputs=(normal(3, 4), uniform(3, 4))),
    row("CTCLoss", inputs=(np.log(P[0][:, None, None] * np.ones((4, 3, 5))), SEQUENCES, (4, 3, 4), (2, 1, 0))),
    row("CTCLoss", 2, inputs=(normal(8, 3, 5), SEQUENCES + (SEQUENCES == 2), np.array([8, 7, 8]), np.array([4, 2, 4]))),
    row("CTCLoss", zero_infinity=True, inputs=(normal(4, 3, 5), np.array([1, 2, 4, 4, 4, 4]), (4, 3, 4), (2, 1, 3))),
    row("CTCLoss", inputs=(normal(6, 5), SEQUENCES[0], (6,), (4,))),
    row("CosineEmbeddingLoss", 0.1, inputs=(normal(3, 4), normal(3, 4), signs(3))),
    row("CosineSimilarity", 2, inputs=(normal(2, 3, 4), normal(2, 3, 4))),
    row("CrossEntropyLoss", label_smoothing=0.1, inputs=(normal(3, 4), LABELS)),
    row("CrossEntropyLoss", ignore_index=1, inputs=(normal(2, 4, 5), integers(4, 2, 5))),
    row("CrossEntropyLoss", inputs=(normal(3, 4), uniform(3, 4))),
    row("GaussianNLLLoss", full=True, inputs=(normal(3, 4), normal(3, 4), P)),
    row("HingeEmbeddingLoss", 0.5, inputs=(normal(3), signs(3))),
    row("HuberLoss", delta=0.5, inputs=(normal(3, 4), normal(3, 4))),
    row("KLDivLoss", inputs=(np.log(P), uniform(3, 4))),
    row("KLDivLoss", log_target=True, inputs=(np.log(P), np.log(uniform(3, 4)))),
    row("L1Loss", inputs=(normal(3, 4), normal(3, 4))),
    row("MSELoss", inputs=(normal(3, 4), normal(3, 4))),
    row("MarginRankingLoss", 0.5, inputs=(normal(3), normal(3), signs(3))),
    row("MultiLabelMarginLoss", inputs=(normal(3, 4), np.array([[3, 0, -1, 1], [-1, 2, 2, 2], [0, 1, 2, 3]]))),
    row("MultiLabelMarginLoss", inputs=(normal(4), np.array([3, 0, -1, 1]))),
    row("MultiLabelSoftMarginLoss", inputs=(normal(3, 4), integers(2, 3, 4))),
    row("MultiMarginLoss", inputs=(normal(3, 4), LABELS)),
    row("MultiMarginLoss", 2, 0.5, inputs=(normal(3, 4), LABELS)),
    row("NLLLoss", inputs=(np.log(P), LABELS)),
    row("NLLLoss", ignore_index=int(LABELS[0]), inputs=(normal(3, 4, 2), np.stack([LABELS] * 2, 1))),
    row("PairwiseDistance", inputs=(normal(3, 4), normal(3, 4))),
    row("PairwiseDistance", 1.0, keepdim=True, inputs=(normal(3, 4), normal(3, 4))),
    row("PoissonNLLLoss", inputs=(normal(3, 4), integers(5, 3, 4))),
    row("PoissonNLLLoss", False, True, inputs=(P, P * 5)),
    row("SmoothL1Loss", beta=0.5, inputs=(normal(3, 4), normal(3, 4))),
    row("SoftMarginLoss", inputs=(normal(3), signs(3))),
    row("TripletMarginLoss", swap=True, inputs=(normal(3, 4), normal(3, 4), normal(3, 4))),
    row("TripletMarginLoss", p=3.0, margin=2.0, inputs=(normal(3, 4), normal(3, 4), normal(3, 4))),
    row("TripletMarginWithDistanceLoss", margin=0.5, swap=True, inputs=(normal(3, 4), normal(3, 4), normal(3, 4))),
]  # fmt: skip

LAYERS = [
    *ACTIVATIONS, *PROJECTIONS, *CONVOLUTIONS, *PADDING, *POOLING, *RESAMPLING, *NORMALIZATION, *RECURRENT, *ATTENTION,
]  # fmt: skip

CONTAINERS = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}


def public_layers() -> list[str]:
    """Every public module but for the containers."""
    names = [name for name in nn.__all__ if isinstance(getattr(nn, name), type)]
    return [name for name in names if issubclass(getattr(nn, name), nn.Module) and name not in CONTAINERS]
