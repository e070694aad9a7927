"""The memory that a network needs is said before any of it is taken."""

import pytest

from gpubp import Dense, Sequential, Trainer, room
from gpubp.errors import DeviceMemoryError

MEMINFO = (
    "MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:  40 kB\nSwapFree:  2 kB\nHugePages:  0\n"
)


@pytest.fixture
def machine(tmp_path):
    """A file system that says how much memory a machine and its group have."""

    def make(meminfo=None, limit=None, current=0, cached=0):
        group = tmp_path / "sys" / "fs" / "cgroup"
        group.mkdir(parents=True)
        (tmp_path / "proc").mkdir()
        if meminfo is not None:
            (tmp_path / "proc" / "meminfo").write_text(meminfo)
        if limit is not None:
            (group / "memory.max").write_text(f"{limit}\n")
            (group / "memory.current").write_text(f"{current}\n")
            (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"meminfo": MEMINFO}, 42 * 1024),
        ({"meminfo": MEMINFO, "limit": "max"}, 42 * 1024),
        ({"meminfo": MEMINFO, "limit": 9000, "current": 3000, "cached": 500}, 6500),
        ({"meminfo": MEMINFO, "limit": 10**9, "current": 3000, "cached": 500}, 42 * 1024),
        ({"limit": 9000, "current": 3000}, 6000),
        ({}, float("inf")),
        ({"meminfo": "nonsense"}, float("inf")),
    ],
)
def test_what_the_machine_has(machine, files, expected):
    assert room.available(machine(**files)) == expected


def test_this_machine_says_it():
    assert 1e6 < room.available() < 1e15


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("precision", "optimizer", "bytes_each"),
    [
        ("fp32", "adam", 4 * 4 + 8 + 4),  # parameters, gradients, m and v; drawn, and ordered
        ("fp32", "sgd", 2 * 4 + 8 + 4),
        ("fp64", "momentum", 3 * 8 + 8 + 8),
        ("bf16", "adam", 4 * 4 + 2 + 8 + 4),
    ],
)
def test_one_byte_too_little_is_refused(monkeypatch, backend, precision, optimizer, bytes_each):
    network = Sequential(Dense(64, "relu"), Dense(16))  # of 32 features: multiples of a cache line
    count = 32 * 64 + 64 + 64 * 16 + 16
    monkeypatch.setattr(room, "available", lambda: count * bytes_each - 1)
    trainer = Trainer(
        network, optimizer=optimizer, device="cpu", backend=backend, precision=precision
    )
    with pytest.raises(DeviceMemoryError, match=r"has 3,152 parameters and needs .* kB of memory"):
        trainer.initialize(32)
    assert trainer.features is None
    monkeypatch.setattr(room, "available", lambda: count * bytes_each)
    trainer.initialize(32)
    assert trainer.features == 32


@pytest.mark.parametrize("units", [100_000, 10**20])
def test_far_too_much_is_refused_at_once(units):
    trainer = Trainer(Sequential(Dense(units), Dense(units), Dense(2)), device="cpu")
    with pytest.raises(DeviceMemoryError, match="use fewer or narrower layers"):
        trainer.initialize(10)


@pytest.mark.parametrize(
    ("count", "text"),
    [(5, "5 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (4e13, "40 TB"), (4e18, "4,000,000 TB")],
)
def test_in_words(count, text):
    assert room.said(count) == text
