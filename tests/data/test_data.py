"""Datasets, samplers, collating and loaders, with and without worker threads."""

import collections
import gc
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import nn, optim
from tracejit.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)

Point = collections.namedtuple("Point", "x y")


class Squares(Dataset):
    """Samples ``(i, i²)`` that take different times."""

    def __init__(self, count=20):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(random.random() * 1e-3)
        return index, np.float32(index * index)


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        return iter(range(10)) if info is None else iter(range(info.id, 10, info.num_workers))

    def __len__(self):
        return 10


def worker_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("DataLoader")]


def flat(loader):
    return [item for batch in loader for item in batch.tolist()]


# Datasets and samplers --------------------------------------------------------------------------------


def test_datasets():
    both = TensorDataset(tj.arange(4), tj.arange(4) * 2)
    assert [item.tolist() for item in both[-1]] == [3, 6]
    part = Subset(both, [2, 0])
    assert (len(part), part[0][1].item()) == (2, 4)
    joined = both + Squares(3)
    assert isinstance(joined, ConcatDataset)
    assert (len(joined), joined[5][0], joined[-1][0], joined[0][0].item()) == (7, 1, 2, 0)
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        TensorDataset(tj.arange(4), tj.arange(3))
    with pytest.raises(ValueError, match="should not exceed dataset length"):
        joined[7]


def test_datasets_side_by_side_and_in_a_row():
    stacked = StackDataset(TensorDataset(tj.arange(3)), [5, 6, 7])
    assert (len(stacked), stacked[2][0][0].item(), stacked[2][1]) == (3, 2, 7)
    images = DataLoader(StackDataset(x=np.arange(3.0), y=[5, 6, 7]), batch_size=2)
    assert [batch["y"].tolist() for batch in images] == [[5, 6], [7]]
    with pytest.raises(ValueError, match="Size mismatch between datasets"):
        StackDataset([1], [1, 2])
    chained = Stream() + Stream()
    assert isinstance(chained, ChainDataset)
    assert (len(chained), flat(DataLoader(chained, 8))) == (20, [*range(10), *range(10)])
    with pytest.raises(AssertionError, match="ChainDataset only supports IterableDataset"):
        ChainDataset([Squares()])


def test_random_split():
    dataset = TensorDataset(tj.arange(10))
    parts = random_split(dataset, [7, 3], tj.random.Generator(1))
    assert sorted(item.item() for part in parts for (item,) in (part[i] for i in range(len(part)))) == list(range(10))
    again = random_split(dataset, [7, 3], tj.random.Generator(1))
    assert [part.indices for part in again] == [part.indices for part in parts]
    assert [len(part) for part in random_split(dataset, [0.5, 0.25, 0.25])] == [6, 2, 2]
    with pytest.raises(ValueError, match="Sum of input lengths does not equal"):
        random_split(dataset, [7, 4])


def test_samplers():
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    sampler = RandomSampler(range(50), generator=tj.random.Generator(0))
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    draws = list(RandomSampler(range(3), replacement=True, num_samples=100))
    assert (len(draws), set(draws)) == (100, {0, 1, 2})
    assert len(list(RandomSampler(range(3), num_samples=7))) == 7
    assert list(BatchSampler(range(5), 2, drop_last=False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        RandomSampler(range(3), num_samples=0)


def test_sampling_with_weights():
    draws = list(WeightedRandomSampler([1.0, 0.0, 3.0, 0.0], 4000, generator=tj.random.Generator(0)))
    assert set(draws) == {0, 2}
    assert abs(draws.count(2) / 4000 - 0.75) < 0.03
    assert list(WeightedRandomSampler([1.0, 0.0, 3.0], 4000, generator=tj.random.Generator(0)))[:9] == draws[:9]
    first = [next(iter(WeightedRandomSampler([1, 0, 3, 2], 3, False))) for _ in range(1000)]
    assert sorted(WeightedRandomSampler([1, 0, 3, 2], 3, replacement=False)) == [0, 2, 3]
    assert [abs(first.count(i) / 1000 - w / 6) < 0.06 for i, w in enumerate([1, 0, 3, 2])] == [True] * 4
    assert sorted(SubsetRandomSampler([4, 1, 7])) == [1, 4, 7]
    for settings, message in [
        (([1.0], 0), "num_samples should be a positive integer value"),
        (([[1.0]], 1), "weights should be a 1d sequence"),
        (([1.0, -1.0], 1), "weights should be finite and not negative"),
        (([1.0, 0.0], 2, False), "cannot draw 2 samples without replacement"),
    ]:
        with pytest.raises(ValueError, match=message):
            WeightedRandomSampler(*settings)


# Collating --------------------------------------------------------------------------------------------


def test_collate():
    found = default_collate([(tj.ones(2), 1, 0.5, "a"), (tj.zeros(2), 2, 1.5, "b")])
    assert found[0].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert (found[1].dtype, found[2].dtype, found[3]) == (tj.int64, tj.float64, ["a", "b"])
    points = default_collate([Point(1, {"z": np.ones(2)}), Point(2, {"z": np.zeros(2)})])
    assert isinstance(points, Point)
    assert points.y["z"].shape == (2, 2)
    assert default_collate([np.float32(1), np.float32(2)]).dtype == tj.float32
    assert default_collate([True, False]).dtype == tj.bool
    assert default_convert({"x": [np.ones(2), "a"]})["x"][0].tolist() == [1.0, 1.0]


def test_what_does_not_collate():
    with pytest.raises(ValueError, match=r"equal size, but got \[3\] at entry 0 and \[4\] at entry 1"):
        default_collate([tj.ones(3), tj.ones(4)])
    with pytest.raises(RuntimeError, match="each element in list of batch should be of equal size"):
        default_collate([[1], [1, 2]])
    with pytest.raises(TypeError, match="numbers, dicts or lists; found <class 'object'"):
        default_collate([object()])


# Loaders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order(workers):
    loader = DataLoader(Squares(20), batch_size=3, num_workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader) == 7
    assert [i for indices, _ in batches for i in indices.tolist()] == list(range(20))
    assert batches[-1][1].tolist() == [18.0**2, 19.0**2]
    assert len(list(DataLoader(Squares(20), 3, drop_last=True, num_workers=workers))) == 6
    assert worker_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_shuffling_is_the_generators(workers):
    dataset = TensorDataset(tj.arange(30))

    def epochs():
        loader = DataLoader(dataset, 4, shuffle=True, num_workers=workers, generator=tj.random.Generator(3))
        return [flat(batch for (batch,) in loader) for _ in range(2)]

    first, second = epochs()
    assert epochs() == [first, second]
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    reference = DataLoader(dataset, 4, shuffle=True, generator=tj.random.Generator(3))
    assert [flat(batch for (batch,) in reference) for _ in range(2)] == [first, second]
    tj.manual_seed(0)
    default = flat(batch for (batch,) in DataLoader(dataset, 4, shuffle=True, num_workers=workers))
    tj.manual_seed(0)
    assert flat(batch for (batch,) in DataLoader(dataset, 4, shuffle=True, num_workers=workers)) == default


def test_tensor_datasets_are_collated_as_others_are():
    dataset = TensorDataset(tj.arange(5), tj.arange(10).reshape(5, 2))
    quick = list(DataLoader(dataset, 2))
    slow = list(DataLoader(dataset, 2, collate_fn=lambda samples: default_collate(samples)))
    assert [[part.tolist() for part in batch] for batch in quick] == [[p.tolist() for p in batch] for batch in slow]
    assert isinstance(quick[0], list)


def test_samplers_and_no_batches():
    dataset = TensorDataset(tj.arange(5))
    assert flat(b for (b,) in DataLoader(dataset, 2, sampler=[4, 2, 0])) == [4, 2, 0]
    assert [b.tolist() for (b,) in DataLoader(dataset, batch_sampler=[[1], [0, 3]])] == [[1], [0, 3]]
    assert [item for item, _ in DataLoader(Squares(3), batch_size=None)] == [0, 1, 2]
    assert list(DataLoader(Squares(3), 2, collate_fn=len)) == [2, 1]


def test_many_at_once():
    class Many(Squares):
        def __getitems__(self, indices):
            return [index * 100 for index in indices]

    assert flat(DataLoader(Many(4), 3)) == [0, 100, 200, 300]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_streams(workers):
    loader = DataLoader(Stream(), batch_size=3, num_workers=workers)
    assert sorted(flat(loader)) == list(range(10))
    if workers < 2:
        assert [batch.tolist() for batch in loader] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
        assert len(loader) == 4
    assert list(DataLoader(Stream(), batch_size=None)) == list(range(10))
    assert worker_threads() == []


def test_workers_have_ids_and_seeds():
    class Ask(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            info = get_worker_info()
            return info.id, info.num_workers, info.generator.integers(0, 1 << 30).item()

    started = []
    loader = DataLoader(Ask(), 2, num_workers=2, worker_init_fn=started.append, generator=tj.random.Generator(0))
    batches = list(loader)
    assert sorted(started) == [0, 1]
    assert [ids.tolist() for ids, _, _ in batches] == [[0, 0], [1, 1], [0, 0], [1, 1]]
    numbers = [item for _, _, drawn in batches for item in drawn.tolist()]
    assert len(set(numbers)) == 8
    again = DataLoader(Ask(), 2, num_workers=2, generator=tj.random.Generator(0))
    assert [item for _, _, drawn in again for item in drawn.tolist()] == numbers
    assert get_worker_info() is None


# Workers that fail, and workers that are left -----------------------------------------------------------


class Broken(Squares):
    def __getitem__(self, index):
        if index == 5:
            return self.fail()
        return index

    def fail(self):
        raise KeyError("sample 5 is missing")


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_come_with_the_workers_traceback(workers):
    batches = iter(DataLoader(Broken(), 2, num_workers=workers))
    assert [next(batches).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(KeyError, match="sample 5 is missing") as caught:
        next(batches)
    assert "fail" in [entry.name for entry in caught.traceback]
    if workers:
        assert caught.value.__notes__ == ["Caught KeyError in DataLoader worker 0."]
    assert worker_threads() == []


def test_errors_in_the_sampler_and_in_the_start_of_a_worker():
    def start(worker):
        raise OSError("no file")

    with pytest.raises(OSError, match="no file"):
        next(iter(DataLoader(Squares(), num_workers=2, worker_init_fn=start)))

    def order():
        yield 0
        raise RuntimeError("bad order")

    with pytest.raises(RuntimeError, match="bad order"):
        list(DataLoader(Squares(), sampler=order(), num_workers=1, prefetch_factor=1))
    gc.collect()
    assert worker_threads() == []


def test_a_break_ends_the_workers():
    for batch in DataLoader(Squares(1000), 2, num_workers=3):
        assert batch[0].tolist() == [0, 1]
        break
    del batch
    gc.collect()
    deadline = time.monotonic() + 5
    while worker_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker_threads() == []


def test_an_error_in_the_loop_ends_the_workers():
    def train():
        for _ in DataLoader(Squares(1000), 2, num_workers=3):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    gc.collect()
    deadline = time.monotonic() + 5
    while worker_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker_threads() == []


PROGRAM = """
import signal, sys, time
import numpy as np
from tracejit.data import DataLoader, Dataset

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it

class Slow(Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        time.sleep(60 if index >= 6 else 0)
        return np.float32(index)

batches = iter(DataLoader(Slow(), 2, num_workers=3))
for _ in range(3):
    print(next(batches).tolist(), flush=True)
if sys.argv[1] == "exit":
    sys.exit(0)
try:
    next(batches)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("way", ["exit", "interrupt"])
def test_a_program_ends_at_once_while_workers_are_busy(way):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PROGRAM, way]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        for expected in ("[0.0, 1.0]", "[2.0, 3.0]", "[4.0, 5.0]"):
            assert program.stdout.readline().strip() == expected
        if way == "interrupt":
            time.sleep(0.3)
            program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert (program.returncode, err) == (0, "")
    assert out.strip() == ("interrupted" if way == "interrupt" else "")


def test_workers_fetch_ahead_but_not_too_far():
    fetched = []

    class Watched(Squares):
        def __getitem__(self, index):
            fetched.append(index)
            return index

    iterator = iter(DataLoader(Watched(100), 1, num_workers=2, prefetch_factor=3))
    next(iterator)
    time.sleep(0.1)
    assert len(fetched) == 7
    iterator.close()


def test_timeout():
    class Slow(Squares):
        def __getitem__(self, index):
            time.sleep(0.3)
            return index

    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.05 seconds"):
        next(iter(DataLoader(Slow(), num_workers=1, timeout=0.05)))


def test_workers_run_compiled_functions_and_gradients():
    @tj.jit
    def scale(x):
        return x * 2

    class Scaled(Squares):
        def __getitem__(self, index):
            x = tj.tensor(float(index), requires_grad=True)
            (scale(x) * x).backward()
            return x.grad

    assert flat(DataLoader(Scaled(8), 2, num_workers=2)) == [4.0 * i for i in range(8)]


REFUSED = [
    ({"num_workers": -1}, "num_workers option should be non-negative"),
    ({"timeout": -1}, "timeout option should be non-negative"),
    ({"prefetch_factor": 2}, "prefetch_factor option could only be specified in multiprocessing"),
    ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
    ({"shuffle": True, "sampler": [0]}, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
    ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
]


@pytest.mark.parametrize("name", ["batch_size", "sampler", "dataset"])
def test_what_a_loader_was_made_with_stays(name):
    loader = DataLoader([1, 2, 3], 2)
    loader.num_workers = 1
    with pytest.raises(ValueError, match=f"{name} attribute should not be set after DataLoader is initialized"):
        setattr(loader, name, None)


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(), **settings)


def test_streams_cannot_be_shuffled():
    with pytest.raises(ValueError, match="expected unspecified shuffle option, but got shuffle=True"):
        DataLoader(Stream(), shuffle=True)


# In place of a loader -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_any_iterable_of_arrays_will_do(compiled):
    """A list of NumPy batches and a generator of them train as a loader does, to the bit."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)).astype(np.float32), rng.integers(0, 2, 10)

    def train(batches):
        tj.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        opt = optim.Adam(model.parameters(), lr=0.1)

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        run = tj.jit(step) if compiled else step
        return [run(*batch).item() for batch in batches]

    expected = train(DataLoader(TensorDataset(tj.tensor(x), tj.tensor(y)), 4))
    cuts = [(0, 4), (4, 8), (8, 10)]
    assert train([(x[a:b], y[a:b]) for a, b in cuts]) == expected
    assert train((x[a:b], y[a:b]) for a, b in cuts) == expected
    assert train(DataLoader(list(zip(x, y, strict=True)), 4)) == expected
    assert train(DataLoader(list(zip(x, y, strict=True)), 4, num_workers=2)) == expected
