"""Packed sequences, bags of embeddings, CTC and decoders: against what they are defined by."""

import itertools
import math

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn
from tracejit.nn.utils import rnn

from .test_layers import check_gradient, t64

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [[4, 2, 1], [2, 4, 1]])
def test_packed_sequences_are_run_each_by_itself(name, lengths):
    tj.manual_seed(0)
    layer = getattr(nn, name)(3, 5, num_layers=2, bidirectional=True, batch_first=True, dtype=tj.float64)
    x = t64(RNG.normal(size=(3, 4, 3)))
    packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=lengths[0] == 4)
    output, last = layer(packed)
    padded, counts = rnn.pad_packed_sequence(output, batch_first=True)
    assert counts.tolist() == lengths
    states = last if name == "LSTM" else (last,)
    for n, length in enumerate(lengths):
        alone, end = layer(x[n, :length])
        np.testing.assert_allclose(padded[n, :length].detach().numpy(), alone.detach().numpy(), rtol=1e-12)
        assert (padded[n, length:] == 0).all()
        for state, expected in zip(states, end if name == "LSTM" else (end,), strict=True):
            np.testing.assert_allclose(state[:, n].detach().numpy(), expected.detach().numpy(), rtol=1e-12)


def test_packing_and_unpacking():
    x = tj.arange(24).reshape(4, 3, 2)
    packed = rnn.pack_padded_sequence(x, tj.tensor([2, 4, 3]), enforce_sorted=False)
    assert packed.batch_sizes == (3, 3, 2, 1)
    assert packed.sorted_indices.tolist() == [1, 2, 0]
    padded, lengths = rnn.pad_packed_sequence(packed, padding_value=-1, total_length=5)
    assert (padded.shape, lengths.tolist()) == ((5, 3, 2), [2, 4, 3])
    for n, length in enumerate([2, 4, 3]):
        assert padded[:length, n].tolist() == x[:length, n].tolist()
        assert (padded[length:, n] == -1).all()
    assert packed.to(tj.float64).data.dtype == tj.float64
    parts = [tj.ones(2), tj.ones(3) * 2]
    assert [part.tolist() for part in rnn.unpack_sequence(rnn.pack_sequence(parts, enforce_sorted=False))] == [
        part.tolist() for part in parts
    ]
    assert rnn.pad_sequence(parts, batch_first=True, padding_side="left").tolist() == [[0, 1, 1], [2, 2, 2]]
    assert [p.tolist() for p in rnn.unpad_sequence(rnn.pad_sequence(parts), [2, 3])] == [p.tolist() for p in parts]


def test_projected_lstm():
    layer = nn.LSTM(3, 4, proj_size=2, dtype=tj.float64)
    assert list(layer.state_dict())[-1] == "weight_hr_l0"
    assert [p.shape for p in layer.all_weights[0]] == [(16, 3), (16, 2), (16,), (16,), (2, 4)]
    output, (h, c) = layer(t64(RNG.normal(size=(5, 2, 3))))
    assert (output.shape, h.shape, c.shape) == ((5, 2, 2), (1, 2, 2), (1, 2, 4))
    layer.flatten_parameters()


# Bags of embeddings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 2])
def test_bags(mode, padding):
    table, index, offsets = RNG.normal(size=(6, 3)), np.array([1, 2, 5, 2, 2, 0, 4]), [0, 3, 3, 4, 5]
    ends = [*offsets[1:], len(index)]
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    expected = []
    for start, end in zip(offsets, ends, strict=True):
        rows = [table[i] for i in index[start:end] if i != padding]
        expected.append(reduce(rows, axis=0) if rows else np.zeros(3))

    def call(weight):
        return F.embedding_bag(tj.tensor(index), weight, tj.tensor(offsets), mode=mode, padding_idx=padding)

    np.testing.assert_allclose(call(t64(table)).numpy(), expected)
    gradient = t64(table, requires_grad=True)
    call(gradient).sum().backward()
    if padding is not None:
        assert gradient.grad.numpy()[padding].tolist() == [0.0] * 3
    else:
        check_gradient(call, table)
    square = index[:6].reshape(2, 3)
    found = F.embedding_bag(tj.tensor(square), t64(table), mode=mode).numpy()
    np.testing.assert_allclose(found, reduce(table[square], axis=1))


def test_norms_of_rows_are_limited_in_place():
    weight = tj.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]], requires_grad=True)
    found = F.embedding(tj.tensor([0, 1, 0]), weight, max_norm=1.0)
    np.testing.assert_allclose(weight.detach().numpy(), [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]], rtol=1e-6)
    assert found.tolist() == weight.detach().numpy()[[0, 1, 0]].tolist()
    found.sum().backward()
    assert weight.grad.tolist() == [[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]


def test_gradients_by_frequency():
    index, g = tj.tensor([[0, 1, 0], [0, 2, 2]]), t64(RNG.normal(size=(2, 3)))
    weights = [t64(np.zeros((3, 3)), requires_grad=True) for _ in range(3)]
    (F.embedding(index, weights[0], scale_grad_by_freq=True).mean(1) * g).sum().backward()
    (F.embedding_bag(index, weights[1], scale_grad_by_freq=True) * g).sum().backward()
    (F.embedding_bag(index, weights[2]) * g).sum().backward()
    np.testing.assert_allclose(weights[0].grad.numpy() * [[3], [1], [2]], weights[2].grad.numpy())
    np.testing.assert_array_equal(weights[1].grad.numpy(), weights[0].grad.numpy())


# CTC --------------------------------------------------------------------------------------------------


def spelled(path, blank):
    """The labels that a path spells: repetitions are one, blanks none."""
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_is_the_sum_over_all_paths(blank):
    times, classes = 5, 3
    x = RNG.normal(size=(times, 4, classes))
    log_probs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    labels = [c for c in range(classes) if c != blank]
    targets = np.array([[labels[0], labels[1]], [labels[0]] * 2, [labels[1], labels[1]], [labels[0], labels[0]]])
    spans, lengths = [5, 5, 3, 4], [2, 2, 1, 0]
    expected = []
    for n in range(4):
        wanted = tuple(targets[n, : lengths[n]])
        paths = (p for p in itertools.product(range(classes), repeat=spans[n]) if spelled(p, blank) == wanted)
        total = sum(math.exp(sum(log_probs[t, n, label] for t, label in enumerate(path))) for path in paths)
        expected.append(-math.log(total))
    found = F.ctc_loss(t64(log_probs), tj.tensor(targets), spans, lengths, blank, "none")
    np.testing.assert_allclose(found.numpy(), expected)
    mean = F.ctc_loss(t64(log_probs), tj.tensor(targets), tj.tensor(spans), tj.tensor(lengths), blank).item()
    assert mean == pytest.approx(np.mean(np.array(expected) / np.maximum(lengths, 1)))
    flat = tj.tensor(np.concatenate([targets[n, : lengths[n]] for n in range(4)]))
    np.testing.assert_allclose(F.ctc_loss(t64(log_probs), flat, spans, lengths, blank, "none").numpy(), expected)
    check_gradient(lambda x: F.ctc_loss(x, tj.tensor(targets), spans, lengths, blank, "none"), log_probs)


def test_a_target_that_does_not_fit():
    x = tj.zeros(2, 1, 3, requires_grad=True)
    target = tj.tensor([[1, 1]])  # needs a blank between
    assert F.ctc_loss(x, target, [2], [2]).item() == math.inf
    loss = F.ctc_loss(x, target, [2], [2], zero_infinity=True)
    loss.backward()
    assert (loss.item(), x.grad.abs().sum().item()) == (0.0, 0.0)


# Transformers -----------------------------------------------------------------------------------------


def test_decoder_layer():
    layer = nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, norm_first=True, dtype=tj.float64)
    x, memory = t64(RNG.normal(size=(3, 2, 4))), t64(RNG.normal(size=(5, 2, 4)))
    y = layer.norm1(x)
    y = x + layer.self_attn(y, y, y)[0]
    y = y + layer.multihead_attn(layer.norm2(y), memory, memory)[0]
    expected = y + layer.linear2(F.relu(layer.linear1(layer.norm3(y))))
    np.testing.assert_allclose(layer(x, memory).detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    assert layer(x, memory, mask).tolist() == layer(x, memory, tgt_is_causal=True).tolist()


def test_a_causal_decoder_does_not_look_ahead():
    tj.manual_seed(0)
    model = nn.Transformer(8, 2, 1, 2, 16, batch_first=True).eval()
    assert len(model.encoder.layers) == 1
    assert len(model.decoder.layers) == 2
    source, target = tj.randn(2, 6, 8), tj.randn(2, 5, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    changed = tj.concat([target[:, :3], tj.randn(2, 2, 8)], 1)
    first, second = (model(source, t, tgt_mask=mask).detach().numpy() for t in (target, changed))
    np.testing.assert_allclose(first[:, :3], second[:, :3], rtol=1e-5)
    assert np.abs(first[:, 3:] - second[:, 3:]).max() > 0.1


def test_added_keys_take_part():
    layer = nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True)
    x = tj.randn(2, 3, 4)
    hidden = tj.ones((2, 3), dtype=tj.bool)
    output, weights = layer(x, x, x, key_padding_mask=hidden)
    assert weights.shape == (2, 3, 5)
    assert (weights[:, :, :3] == 0).all()
    np.testing.assert_allclose(weights.detach().numpy().sum(-1), 1, rtol=1e-6)
    assert np.isfinite(output.detach().numpy()).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True), lambda: nn.LSTM(3, 5, proj_size=2),
        lambda: nn.GRU(3, 4, bidirectional=True, batch_first=True), lambda: nn.RNN(3, 4, nonlinearity="relu"),
    ],
    ids=["LSTM", "projected", "GRU", "RNN"],
)  # fmt: skip
def test_long_sequences_are_a_loop_of_the_program(make):
    def run(x, layer):
        x = x.detach().requires_grad_()
        output, last = layer(x)
        last = last if isinstance(last, tuple) else (last,)
        total = (output * output).sum() + sum((state * state * 0.5).sum() for state in last)
        return output, *last, *tj.autograd.grad(total, [x, *layer.parameters()])

    tj.manual_seed(0)
    layer = make()
    texts = []
    for length in (9, 30):
        shape = (2, length, 3) if layer.batch_first else (length, 2, 3)
        x = tj.tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))
        jitted = tj.jit(run)
        for found, expected in zip(jitted(x, layer), run(x, layer), strict=True):
            assert found.detach().numpy().tobytes() == expected.detach().numpy().tobytes()
        texts.append(jitted.ir(x, layer, stage="trace").split("\n"))
    assert len(texts[0]) == len(texts[1])
