"""Training that is saved midway, to a file, and goes on in fresh objects: the same bits as if it had not stopped."""

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim, serialization
from tracejit.optim import lr_scheduler

from .optimizers import OPTIMIZERS, SCHEDULERS, WITH_CLOSURES, name_of

pytestmark = pytest.mark.usefixtures("first_code_only")


class Training:
    """A model with buffers, an optimizer and a scheduler, and how they train."""

    def __init__(self, name, settings, make_scheduler, compiled, seed=0):
        tj.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 3))
        groups = [{"params": self.model[0].parameters()}, {"params": self.model[4].parameters(), "lr": 0.05}]
        self.opt = getattr(optim, name)(groups if name != "LBFGS" else self.model.parameters(), **settings)
        self.scheduler = make_scheduler(lr_scheduler, self.opt)
        self.step = tj.jit(self.train_step) if compiled else self.train_step

    def train_step(self, x, y):
        def closure():
            self.opt.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            return loss

        if isinstance(self.opt, optim.LBFGS):
            return self.opt.step(closure)
        loss = closure()
        self.opt.step()
        return loss

    def run(self, steps):
        x, y = tj.tensor(X), tj.tensor(Y)
        seen = []
        for _ in range(steps):
            loss = self.step(x, y).item()
            plateau = isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau)
            self.scheduler.step(*((loss,) if plateau else ()))
            seen.append((loss, self.scheduler.get_last_lr()))
        return seen, [tensor.detach().numpy().tobytes() for tensor in self.model.state_dict().values()]

    def parts(self):
        return {"model": self.model, "optimizer": self.opt, "scheduler": self.scheduler}


X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
Y = np.random.default_rng(0).integers(0, 3, 8)


def check(name, settings, make_scheduler, compiled, path):
    whole = Training(name, settings, make_scheduler, compiled)
    whole.run(3)
    generator = tj.random.default_generator
    content = {**whole.parts(), "epoch": 3, "random": [generator.key, generator.position]}
    serialization.save(content, path)
    expected = whole.run(3)
    saved = serialization.load(path)
    fresh = Training(name, settings, make_scheduler, compiled, seed=9)
    fresh.run(1)  # a step that has been compiled goes on with what is loaded
    for part, item in fresh.parts().items():
        item.load_state_dict(saved[part])
    with tj.no_grad():
        for own, value in zip((generator.key, generator.position), saved["random"], strict=True):
            own.copy_(value)
    assert saved["epoch"] == 3
    assert fresh.run(3) == expected


@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS + WITH_CLOSURES, ids=name_of)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_optimizers(name, settings, compiled, tmp_path):
    check(name, settings, lambda library, opt: library.ExponentialLR(opt, 0.9), compiled, tmp_path / "c.safetensors")


@pytest.mark.parametrize(("name", "make"), SCHEDULERS, ids=name_of)
def test_schedulers(name, make, tmp_path):
    check("SGD", {"lr": 0.1, "momentum": 0.9}, make, False, tmp_path / "c.safetensors")
