"""Layers, losses and models, under PyTorch's names.

A :class:`Module` owns parameters and other modules; the computations themselves are in :mod:`.functional`.
:mod:`tracejit.optim` updates the parameters.
"""

from ..tensor import Parameter
from . import functional, init
from .activation import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .clip_grad import clip_grad_norm_, clip_grad_value_
from .container import Identity, ModuleDict, ModuleList, Sequential
from .dropout import Dropout
from .linear import Linear
from .loss import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from .module import Module
from .normalization import LayerNorm

__all__ = [
    "Module", "Parameter",
    "Identity", "ModuleDict", "ModuleList", "Sequential",
    "Dropout", "LayerNorm", "Linear",
    "GELU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh",
    "BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "NLLLoss",
    "clip_grad_norm_", "clip_grad_value_", "functional", "init",
]  # fmt: skip
