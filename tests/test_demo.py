"""The command line: the demo and the disk cache."""

import io
import re

import pytest

from tracejit.__main__ import main
from tracejit.backends import cache
from tracejit.demo import train


def test_the_demo_agrees_with_itself(capsys):
    assert main(["demo", "--epochs", "2"]) == 0
    text = capsys.readouterr().out
    assert "The losses of all 46 steps agree bit for bit." in text
    eager = re.search(r"^eager +epoch +2/2 +loss (.*)$", text, re.MULTILINE)
    jitted = re.search(r"^@tj.jit +epoch +2/2 +loss (.*)$", text, re.MULTILINE)
    assert eager is not None
    assert jitted is not None
    assert eager[1] == jitted[1]
    rows = re.findall(r"^(eager|@tj.jit) +([\d,]+) .* ([\d.]+)%$", text, re.MULTILINE)
    assert [row[0] for row in rows] == ["eager", "@tj.jit"]
    assert rows[0][2] == rows[1][2]
    assert "func @train_step(" in text
    assert "gradient of " in text


@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_learns(seed):
    run = train.train(train.load_data(), 30, seed, train.Progress("", io.StringIO()), compiled=True)
    assert run.accuracy >= 0.97
    assert len(run.losses) == 30 * 23
    assert run.first_of_its_shape == [0, 22]


def test_losses_that_differ_fail_the_demo(monkeypatch):
    honest = train.train

    def dishonest(*arguments, compiled):
        run = honest(*arguments, compiled=compiled)
        if compiled:
            run.losses[3] += 1e-7
        return run

    monkeypatch.setattr(train, "train", dishonest)
    out = io.StringIO()
    assert train.run_demo(epochs=1, out=out) == 1
    assert "The losses DIFFER at 1 of 23 steps, first at step 3" in out.getvalue()


def test_the_bar_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    progress = train.Progress("eager", out)
    progress.show(1, 2, 0.5)
    progress.show(2, 2, 0.25)
    assert out.getvalue().endswith(f"\reager    epoch   2/2  loss 0.2500  {'█' * 30}\n")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_a_device_that_is_not_there(device, capsys):
    assert main(["demo", "--device", device]) == 2
    text = capsys.readouterr().out
    assert device in text
    if device != "tpu":
        assert train.why_no_cuda() in text


def test_options_that_make_no_sense():
    for arguments in ([], ["demo", "--epochs", "0"], ["cache", "shrink"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)


def test_the_disk_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)
    cache.write("key", b"machine code")
    assert main(["cache", "info"]) == 0
    text = capsys.readouterr().out
    assert str(tmp_path) in text
    assert re.search(r"^entries +1$", text, re.MULTILINE)
    assert main(["cache", "clear"]) == 0
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(cache, "directory", lambda: None)
    assert main(["cache", "info"]) == 0
    assert "There is no disk cache" in capsys.readouterr().out
