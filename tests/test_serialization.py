"""Checkpoints: the safetensors format byte by byte, damaged files, and training that goes on in another process."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tracejit as tj
from tracejit import nn, optim, serialization
from tracejit.optim import lr_scheduler

DTYPES = [
    tj.float64, tj.float32, tj.float16, tj.bfloat16, tj.int64, tj.int32, tj.int16, tj.int8, tj.uint64, tj.uint32,
    tj.uint16, tj.uint8, tj.bool, tj.complex64,
]  # fmt: skip


def test_the_format():
    data = serialization.save_bytes({"b": tj.tensor([1, -1], dtype=tj.int8), "a": tj.tensor([[1.5]])}, {"by": "tests"})
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "__metadata__": {"by": "tests"},
        "a": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "b": {"dtype": "I8", "shape": [2], "data_offsets": [4, 6]},
    }
    assert data[8 + length :] == np.float32(1.5).tobytes() + b"\x01\xff"


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_dtype_comes_back(tmp_path, shape):
    tensors = {dtype.name: tj.ones(shape, dtype=dtype) for dtype in DTYPES}
    serialization.save_file(tensors, tmp_path / "t.safetensors", {"k": "v"})
    found = serialization.load_file(tmp_path / "t.safetensors")
    assert sorted(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes()
    assert serialization.load_metadata(tmp_path / "t.safetensors") == {"k": "v"}
    assert serialization.load(tmp_path / "t.safetensors").keys() == tensors.keys()


def test_arrays_of_any_layout():
    big = np.arange(6, dtype=">f8").reshape(2, 3).T
    found = serialization.load_bytes(serialization.save_bytes({"x": big, "y": nn.Parameter(tj.ones(2))}))
    np.testing.assert_array_equal(found["x"].numpy(), big)
    assert not found["y"].requires_grad


def file(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
DAMAGED = [
    (b"", "too short"),
    (b"\xff" * 8 + b"{}", "too short"),
    (file(b"{"), "not JSON"),
    (file([]), "no JSON object"),
    (file(b'{"a": 1, "a": 2}'), "twice"),
    (file({"__metadata__": {"a": 1}}), "metadata are not strings"),
    (file({"a": 1}), "no data_offsets"),
    (file({"a": {**ENTRY, "data_offsets": [0, True]}}, b"1234"), "no data_offsets"),
    (file({"a": {**ENTRY, "shape": [-1]}}, b"1234"), "no shape"),
    (file({"a": {**ENTRY, "dtype": "F8"}}, b"1234"), "unknown dtype 'F8'"),
    (file({"a": ENTRY}, b"12"), "do not fit"),
    (file({"a": {**ENTRY, "shape": [2]}}, b"1234"), "do not fit"),
    (file({"a": ENTRY, "b": ENTRY}, b"1234"), "do not fit"),
    (file({"a": {**ENTRY, "data_offsets": [4, 8]}}, b"12345678"), "do not fit"),
    (file({"a": ENTRY}, b"12345"), "1 bytes of the file belong to no tensor"),
]


@pytest.mark.parametrize(("data", "message"), DAMAGED)
def test_damaged_files(data, message):
    with pytest.raises(ValueError, match=message):
        serialization.load_bytes(data)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="has no dtype complex128"):
        serialization.save_bytes({"x": np.ones(1, complex)})
    with pytest.raises(ValueError, match="cannot be the name of a tensor"):
        serialization.save_bytes({"__metadata__": tj.ones(1)})
    with pytest.raises(TypeError, match="must be strings"):
        serialization.save_bytes({}, {"epoch": 1})
    with pytest.raises(TypeError, match=r"cannot save set at 'a\.0'"):
        serialization.save({"a": [{1, 2}]}, tmp_path / "x")
    with pytest.raises(TypeError, match="keys of a dict must be strings or ints"):
        serialization.save({1.5: 1}, tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    serialization.save_file({"x": tj.ones(1)}, path)

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        serialization.save_file({"x": tj.zeros(1)}, path)
    monkeypatch.undo()
    assert serialization.load_file(path)["x"].tolist() == [1.0]
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_the_names_that_users_look_for(tmp_path):
    tj.save(nn.Linear(2, 1).state_dict(), tmp_path / "w")
    assert list(tj.load(tmp_path / "w")) == ["weight", "bias"]
    assert tj.load is serialization.load


def test_structures(tmp_path):
    content = {
        "numbers": [1, 2.5, math.inf, None, True, "text"],
        "pair": (tj.ones(2), {"x.y": tj.zeros(1), 3: tj.tensor(1)}),
        "x": {"y": tj.ones(1)},
        "x.y": tj.zeros(1),
    }
    serialization.save(content, tmp_path / "c")
    found = serialization.load(tmp_path / "c")
    assert found["numbers"] == content["numbers"]
    assert isinstance(found["pair"], tuple)
    assert list(found["pair"][1]) == ["x.y", 3]
    assert (found["x"]["y"].tolist(), found["x.y"].tolist()) == ([1.0], [0.0])


SCRIPT = """
import sys
import tracejit as tj
from tracejit import nn, optim, serialization
from tracejit.optim import lr_scheduler

def parts():
    tj.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    opt = optim.AdamW(model.parameters(), lr=0.1)
    return model, opt, lr_scheduler.ExponentialLR(opt, 0.9)

def train(model, opt, scheduler, steps):
    x = tj.arange(12, dtype=tj.float32).reshape(4, 3)
    for _ in range(steps):
        loss = (model(x) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        scheduler.step()
    return loss.item()
"""


def test_training_goes_on_in_another_process(tmp_path):
    space = {}
    exec(SCRIPT, space)
    model, opt, scheduler = space["parts"]()
    space["train"](model, opt, scheduler, 2)
    path = tmp_path / "serialization.safetensors"
    serialization.save({"model": model, "optimizer": opt, "scheduler": scheduler}, path)
    expected = space["train"](model, opt, scheduler, 3)
    script = SCRIPT + (
        "saved = serialization.load(sys.argv[1])\n"
        "own = parts()\n"
        "for part, name in zip(own, ('model', 'optimizer', 'scheduler')):\n"
        "    part.load_state_dict(saved[name])\n"
        "print(repr(train(*own, 3)))\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", script, path], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == expected


def test_optimizers_come_back(tmp_path):
    for kind in (optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad, optim.Lion):
        p = tj.ones(2, requires_grad=True)
        opt = kind([p], lr=0.1)
        scheduler = lr_scheduler.OneCycleLR(opt, 0.1, 10, cycle_momentum=False)
        p.grad = tj.ones(2)
        opt.step()
        serialization.save({"o": opt, "s": scheduler}, tmp_path / "c")
        saved = serialization.load(tmp_path / "c")
        other = kind([tj.ones(2, requires_grad=True)], lr=0.5)
        other.load_state_dict(saved["o"])
        assert other.param_groups[0] == {**opt.param_groups[0], "params": other.param_groups[0]["params"]}
        assert [t.tolist() for _, t in other.named_tensors()] == [t.tolist() for _, t in opt.named_tensors()]
