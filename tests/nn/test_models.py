"""Whole models: training steps compiled whole are the eager ones, to the bit."""

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim

STEPS = 3


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.GroupNorm(2, 4), nn.SiLU())
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(12, 3))

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.up(x + self.block(x)))


class Sequence(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(11, 4, padding_idx=0)
        self.layers = getattr(nn, kind)(4, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
        self.norm = nn.BatchNorm1d(10)
        self.head = nn.Linear(10, 3)

    def forward(self, tokens):
        output, _ = self.layers(self.embedding(tokens))
        return self.head(self.norm(output[:, -1]))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))
        self.heads = heads

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.network(self.norm2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.blocks = nn.Sequential(*(Block(8, 2) for _ in range(2)))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions(tj.arange(tokens.shape[1]))
        return self.head(self.blocks(x))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.embedding, self.encoder, self.head = nn.Embedding(11, 8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens), src_key_padding_mask=tokens == 0).mean(1))


def images():
    return tj.randn(4, 2, 8, 8), tj.randint(0, 3, (4,))


def sentences():
    return tj.randint(0, 11, (4, 6)), tj.randint(0, 3, (4,))


def next_tokens():
    return tj.randint(0, 11, (3, 6)), tj.randint(0, 11, (3, 6))


MODELS = {
    "cnn": (Residual, images),
    "lstm": (lambda: Sequence("LSTM"), sentences),
    "gru": (lambda: Sequence("GRU"), sentences),
    "gpt": (GPT, next_tokens),
    "encoder": (Encoder, sentences),
}


def training(make, data, compiled):
    tj.manual_seed(0)
    model, (x, y) = make(), data()
    opt = optim.Adam(model.parameters(), lr=0.01)

    def train_step(x, y):
        logits = model(x)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        return loss

    step = tj.jit(train_step) if compiled else train_step
    losses = [step(x, y).item() for _ in range(STEPS)]
    model.eval()
    evaluate = tj.jit(model) if compiled else model
    with tj.no_grad():
        output = evaluate(x).numpy()
    if compiled:
        assert (step.cache_info().misses, step.cache_info().lazy) == (1, 0), step.explain()
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    state.update({f"grad.{name}": parameter.grad.numpy() for name, parameter in model.named_parameters()})
    return losses, output, state


@pytest.mark.parametrize("name", MODELS)
def test_compiled_training_is_the_eager_one_to_the_bit(name):
    expected, found = (training(*MODELS[name], compiled) for compiled in (False, True))
    assert found[0] == expected[0]
    assert found[1].tobytes() == expected[1].tobytes()
    for key, value in expected[2].items():
        assert found[2][key].tobytes() == value.tobytes(), key
    assert np.isfinite(expected[0]).all()


def test_training_learns():
    losses, _, _ = training(*MODELS["gpt"], True)
    assert losses[-1] < losses[0]
