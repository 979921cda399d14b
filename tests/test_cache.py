"""The disk cache: a second process compiles nothing, and no file in the folder can do harm."""

import json
import os
import platform
import random
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracejit.backends import cache
from tracejit.backends.cpu import compiler, runtime
from tracejit.ir.primitive import PRIMITIVES

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import tracejit as tj
    from tracejit.backends.cpu import compiler

    @tj.jit
    def f(x):
        return tj.tanh(x * 3).sum(0) + tj.exp(x)

    @tj.jit
    def g(x):
        return tj.exp(x) if tj.log(x).sum() > 0 else x

    result = [f(tj.ones(5, 4)).tolist(), f(tj.ones(3, 4)).tolist(), tj.log(tj.tensor([2.0, 3.0])).tolist()]
    result.append(g(tj.ones(3) * 2).tolist())
    assert g.cache_info().lazy == 0, g.explain()  # files that the library writes are no effect of the function
    compiler.wait()
    counts = compiler.Statistics
print(json.dumps({
    "result": result, "modules": counts.modules, "hits": counts.disk_hits, "llvm": "llvmlite" in sys.modules,
    "warnings": [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)],
}))
"""


@pytest.fixture(autouse=True)
def _nothing_in_the_background() -> None:
    """What earlier tests left to be compiled is not written into this test's folder."""
    compiler.wait()


def start(folder: str | Path, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": str(folder), **variables}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=pipe, stderr=pipe, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    report: dict[str, Any] = json.loads(output)
    return report


def run(folder: str | Path, **variables: str) -> dict[str, Any]:
    """What a process that uses this cache folder reports."""
    return finished(start(folder, **variables))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def modules(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.suffix == cache.MODULE]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder that a process has filled, and what that one reported."""
    folder = tmp_path_factory.mktemp("cache") / "new" / "folder"
    report = run(folder)
    assert report["hits"] == 0
    return folder, report


def copied(warm: tuple[Path, dict[str, Any]], target: Path) -> Path:
    target.mkdir(mode=0o700)
    for path in entries(warm[0]):
        (target / path.name).write_bytes(path.read_bytes())
    return target


# Processes ------------------------------------------------------------------------------------------


def test_a_second_process_compiles_nothing(warm: tuple[Path, dict[str, Any]]) -> None:
    folder, first = warm
    before = {path: path.read_bytes() for path in entries(folder)}
    second = run(folder)
    assert second["result"] == first["result"]
    assert second["hits"] == second["modules"] == first["modules"] == len(modules(folder))
    assert {path: path.read_bytes() for path in entries(folder)} == before
    assert first["llvm"]
    if sys.platform == "linux" and platform.machine() == "x86_64":
        assert not second["llvm"]


def test_modes(warm: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = warm
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in entries(folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.suffix in (cache.MODULE, cache.PROGRAM, cache.TARGET)


DAMAGE = {
    "empty": lambda path, other: path.write_bytes(b""),
    "cut short": lambda path, other: path.write_bytes(path.read_bytes()[:-1]),
    "cut to the digest": lambda path, other: path.write_bytes(path.read_bytes()[:32]),
    "one bit": lambda path, other: path.write_bytes(path.read_bytes()[:-9] + b"\x01" + path.read_bytes()[-8:]),
    "longer": lambda path, other: path.write_bytes(path.read_bytes() + b"\0"),
    "text": lambda path, other: path.write_text("not machine code " * 100),
    "another entry": lambda path, other: path.write_bytes(other),
    "a folder": lambda path, other: (path.unlink(), path.mkdir()),
}


@pytest.mark.filterwarnings("ignore:tracejit goes on without storing")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_a_miss(damage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TRACEJIT_CACHE_DIR", str(tmp_path / "cache"))
    cache.directory.cache_clear()
    cache.write("other", b"other machine code" * 10)
    (other,) = entries(tmp_path / "cache")
    content = other.read_bytes()
    cache.write("key", b"machine code" * 20)
    (entry,) = set(entries(tmp_path / "cache")) - {other}
    assert cache.read("key") == b"machine code" * 20
    damage(entry, content)
    assert cache.read("key") is None
    cache.write("key", b"anew")
    assert cache.read("key") == (None if entry.is_dir() else b"anew")
    assert cache.read("other") == b"other machine code" * 10


def test_a_process_survives_a_damaged_folder(warm: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = copied(warm, tmp_path / "cache")
    contents = [path.read_bytes() for path in entries(folder)]
    for number, (path, damage) in enumerate(zip(entries(folder), [*DAMAGE.values()] * 9, strict=False)):
        damage(path, contents[number - 1])
    report = run(folder)
    assert report["result"] == warm[1]["result"]
    assert report["hits"] == 0
    assert [warning.endswith("Is a directory") for warning in report["warnings"]] == [True]
    repaired = run(folder)
    assert repaired["hits"] == sum(path.is_file() for path in modules(folder))


def test_off(tmp_path: Path, warm: tuple[Path, dict[str, Any]]) -> None:
    report = run("", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert report == {**warm[1], "hits": 0}
    assert list(tmp_path.iterdir()) == []


def test_processes_may_share_a_folder(tmp_path: Path, warm: tuple[Path, dict[str, Any]]) -> None:
    started = [start(tmp_path) for _ in range(3)]
    assert [finished(process)["result"] for process in started] == [warm[1]["result"]] * 3
    assert run(tmp_path)["hits"] == warm[1]["modules"]


def test_a_folder_that_cannot_be_used_is_told_once(tmp_path: Path, warm: tuple[Path, dict[str, Any]]) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    report = run(tmp_path / "file")
    assert report["result"] == warm[1]["result"]
    assert report["hits"] == 0
    assert len(report["warnings"]) == 1
    assert "tracejit compiles without its disk cache" in report["warnings"][0]


# The folder -----------------------------------------------------------------------------------------


def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEJIT_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    cache.directory.cache_clear()
    assert cache.directory() == tmp_path / ".cache" / "tracejit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    cache.directory.cache_clear()
    assert cache.directory() == tmp_path / "elsewhere" / "tracejit"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "cache"
    monkeypatch.setenv("TRACEJIT_CACHE_DIR", str(path))
    cache.directory.cache_clear()
    yield path
    cache.directory.cache_clear()


@pytest.fixture(autouse=True)
def _forget_the_folder() -> Iterator[None]:
    yield
    cache.directory.cache_clear()


def test_what_is_written_is_read(folder: Path) -> None:
    assert cache.read("key") is None
    for content in (b"first", b"", b"\0" * 100_000):
        cache.write("key", content)
        assert cache.read("key") == content
    assert cache.read("another key") is None
    assert len(entries(folder)) == 1


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777], ids=oct)
def test_a_folder_that_others_can_write_is_not_used(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="can be written by another user") as caught:
        cache.write("key", b"content")
    assert cache.read("key") is None
    assert len(caught) == 1
    assert entries(folder) == []


def test_a_folder_of_somebody_else_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: -5)
    with pytest.warns(RuntimeWarning, match="belongs to"):
        cache.write("key", b"content")
    assert entries(folder) == []


def test_a_read_only_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.warns(RuntimeWarning, match="cannot be written") as caught:
        cache.write("key", b"content")
    assert cache.read("key") is None
    assert len(caught) == 1


def test_no_home(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRACEJIT_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="no home folder"):
        assert cache.directory() is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_entry_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for key in ("key", "another key"):
                cache.write(key, b"content")
        assert [str(warning.message).endswith("No space left on device") for warning in caught] == [True]
    assert entries(folder) == []
    assert cache.read("key") is None
    cache.write("key", b"content")
    assert cache.read("key") == b"content"


def test_the_folder_goes_while_it_is_used(folder: Path) -> None:
    cache.write("key", b"content")
    for path in entries(folder):
        path.unlink()
    folder.rmdir()
    with pytest.warns(RuntimeWarning, match="No such file"):
        cache.write("key", b"content")
    assert cache.read("key") is None


def test_a_folder_may_be_named_in_a_short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder that the program works in, which may change, or from the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, path in (("nearby", tmp_path / "nearby"), ("~/own", tmp_path / "home" / "own")):
        monkeypatch.setenv("TRACEJIT_CACHE_DIR", name)
        cache.directory.cache_clear()
        cache.write("key", b"content")
        monkeypatch.chdir(tmp_path.parent)
        assert cache.read("key") == b"content"
        assert len(entries(path)) == 1
        monkeypatch.chdir(tmp_path)


def test_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the entry that was not used for longest goes first."""
    monkeypatch.setattr(cache, "MAX_BYTES", 1000)
    for age, key in enumerate("abcd"):
        cache.write(key, bytes(200))
        os.utime(max(folder.iterdir(), key=lambda path: path.stat().st_mtime), (1000 + age, 1000 + age))
    assert [cache.read(key) is not None for key in "abcd"] == [True] * 4
    for age, key in enumerate("bcda"):  # "b" is now the oldest
        path = cache._entry(cache.name_of(key), cache.MODULE)
        assert path is not None
        os.utime(path, (2000 + age, 2000 + age))
    cache.write("e", bytes(200))
    assert [cache.read(key) is not None for key in "abcde"] == [True, False, True, True, True]
    assert sum(path.stat().st_size for path in entries(folder)) <= 1000


def test_a_folder_of_many_entries_is_looked_at_seldom(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    monkeypatch.setattr(cache, "_bound", looks.append)
    for number in range(2000):
        cache.write(str(number), bytes(100))
    assert 1 <= len(looks) <= 32, "about once in 256 of these"
    cache.write("large", bytes(cache.MAX_BYTES // cache.LOOKS))
    assert len(looks) >= 2


def test_an_operation_on_another_shape_writes_nothing(folder: Path) -> None:
    names = []
    for extent in (1031, 1033, 1039):
        runtime.evaluate(PRIMITIVES["cosine"], [np.ones(extent, np.float32)], {})
        names.append({path.name for path in entries(folder)})
    assert names[0] == names[1] == names[2]


def test_the_bound_leaves_other_files_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 500)
    cache.write("a", b"")
    others = [folder / "thesis.tex", folder / "main.o", folder / "notes.tmp"]
    for path in others:
        path.write_bytes(bytes(2000))
        os.utime(path, (0, 0))
    left = folder / "tmpabc.o.tmp"  # by a process that was killed while it wrote
    left.write_bytes(bytes(2000))
    os.utime(left, (0, 0))
    cache.write("b", bytes(300))
    assert all(path.exists() for path in others)
    assert not left.exists()
    assert cache.read("b") == bytes(300)


# Damage ---------------------------------------------------------------------------------------------


def test_flipped_bits_are_noticed(
    warm: tuple[Path, dict[str, Any]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    generator = random.Random(0)
    every = request.config.getoption("--all")
    folder = copied(warm, tmp_path / "cache")
    assert {path.suffix for path in entries(folder)} >= {cache.MODULE, cache.PROGRAM}
    for path in entries(folder):
        sound = path.read_bytes()
        assert cache._sound_content(path) is not None
        for place in generator.sample(range(8 * len(sound)), 2000 if every else 40):
            flipped = bytearray(sound)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            assert cache._sound_content(path) is None, (path.name, place)
    report = run(folder)
    assert report["result"] == warm[1]["result"]
    assert (report["hits"], report["warnings"]) == (0, [])


def test_verify_names_what_is_damaged(warm: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = copied(warm, tmp_path / "cache")

    def verify(action: str = "verify") -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": str(folder)}
        command = [sys.executable, "-m", "tracejit", "cache", action]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout

    count = len(entries(folder))
    assert verify() == (0, f"{count} of {count} entries are as they were written; others are never loaded\n")
    damaged = entries(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    status, told = verify()
    assert status == 1
    assert f"damaged  {damaged.name}\n{count - 1} of {count} entries" in told
    assert f"modules  {len(modules(folder))}\n" in verify("info")[1]
    assert verify("clear")[0] == 0
    assert entries(folder) == []


KILLED = """
import os, random, signal, sys, time
import numpy as np
import tracejit as tj

def work(seed):
    numbers = random.Random(seed)
    for _ in range(4):
        kind = numbers.randrange(30)
        f = tj.jit(lambda x: (x * (kind + 1.5) + tj.arange(kind + 2.0).sum()).sum(0))
        x = np.arange(12, dtype=np.float32).reshape(3, 4)
        expected = (x * np.float32(kind + 1.5) + np.float32(sum(range(kind + 2)))).sum(0)
        for _ in range(3):
            if not np.allclose(f(tj.tensor(x)).numpy(), expected, rtol=1e-5):
                return 3
    return 0

def start(seed):
    child = os.fork()
    if child == 0:
        status = 4
        try:
            status = work(seed)
        finally:
            os._exit(status)
    return child

kills, killed, moments = int(sys.argv[1]), 0, random.Random(1)
seed = 0
while killed < kills:
    children = [start(seed + n) for n in range(2)]
    seed += 2
    time.sleep(moments.choice([0.01, 0.03, 0.06, 0.1, 0.2]) * moments.random() * 2)
    for child in children:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit(f"a child failed with {os.WEXITSTATUS(status)}")
for last in range(3):
    _, status = os.waitpid(start(last), 0)
    if status:
        sys.exit(f"the last failed with {status}")
from tracejit.backends import cache
print(len(cache.damaged()), len(cache.entries()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("kills", [12, pytest.param(400, marks=pytest.mark.slow)])
def test_processes_that_are_killed_leave_no_damage(kills: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kills > 12 and not request.config.getoption("--all"):
        pytest.skip("--all kills more")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACEJIT_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", KILLED, str(kills)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    damaged, count = map(int, done.stdout.split())
    assert damaged == 0
    assert count > 0
