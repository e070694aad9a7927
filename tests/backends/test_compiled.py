"""Compiled code: once a machine, nothing for a network, and no lock on other Python threads."""

import os
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import numpy as np
from networks import make

from gpubp import Dense
from gpubp.callbacks import Callback
from gpubp.kernels.numba import compiled

TRAIN = """
import numpy as np
from gpubp import Dense, Dropout, Sequential, Trainer
from gpubp.kernels.numba import compiled

announced = []
compiled.on_compile(announced.append)

def train(*layers, rows, features, batch_size):
    rng = np.random.default_rng(0)
    X, y = rng.random((rows, features), np.float32), np.arange(rows) % 2
    trainer = Trainer(Sequential(*layers), optimizer="sgd", backend="numba", threads=2)
    trainer.fit(X, y, batch_size=batch_size)
    trainer.evaluate(X, y)
    return len(announced)

# Layers of which products are made of tiles, and narrow ones of which BLAS makes them.
layers = Dense(16, "relu"), Dropout(0.5), Dense(3, "relu"), Dense(16), Dense(2)
print(train(*layers, rows=20, features=4, batch_size=6))
more = Dense(30, "relu"), Dropout(0.1), Dense(9, "relu"), Dense(5)
print(train(*more, rows=99, features=7, batch_size=64))
print(len(compiled._addresses), len(set(compiled._addresses) - set(compiled.made_here)))
"""


def train_in_a_process(cache):
    """Return how many kernels were announced after a network and after another, the entry points
    in use, and how many of those came from the cache."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAIN],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "GPUBP_CACHE_DIR": str(cache)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_kernels_are_compiled_once_for_all_networks_and_processes(tmp_path):
    first, second, entries, hits = train_in_a_process(tmp_path)
    assert first == second == entries > 10
    assert hits < entries  # those that another process compiled come from there
    assert train_in_a_process(tmp_path) == (0, 0, entries, entries)


def test_other_python_threads_run_while_compiled_code_does(monkeypatch):
    """One of them sees a count of steps from the middle of a single compiled run."""
    monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 1e9)  # runs grow eightfold, unchecked
    last_run = 8**6
    before = (last_run - 1) // 7
    X, y = np.zeros((before + last_run, 1), np.float32), np.arange(before + last_run) % 2
    seen = []

    class Watch(Callback):
        def on_progress(self, trainer, progress):
            if progress.steps_done == before:
                threading.Timer(0.05, lambda: seen.append(trainer.step)).start()

    trainer = make("numba-1", Dense(3))
    trainer.fit(X, y, batch_size=1, callbacks=[Watch()])
    assert trainer.step == before + last_run
    assert before < seen[0] < before + last_run


def test_the_cache_of_other_sources_is_another(monkeypatch):
    """A digest of every kernel's source names the folder: a change never finds stale code."""
    digest = compiled._digest()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + b"#" * (p.name == "activations.py"))
    assert compiled._digest() != digest
    monkeypatch.undo()
    monkeypatch.setattr("numba.__version__", "0")
    assert compiled._digest() != digest


def test_listeners_hear_of_a_compilation_until_they_are_removed(monkeypatch, tmp_path):
    heard = []
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
    source = (
        "from numba import cfunc\n@cfunc('void(CPointer(int64))')\n"
        "def entry(words):\n    words[0] = 7\n"
    )
    remove = compiled.on_compile(heard.append)
    addresses = [compiled.compile_entry("heard_of", source) for _ in range(2)]
    remove()
    words = np.zeros(1, np.int64)
    compiled.c_function(addresses[0])(words.ctypes.data)
    assert words[0] == 7
    assert addresses[0] == addresses[1]
    compiled.compile_entry("not_heard_of", source)
    assert heard == ["heard_of"]


def test_no_two_compiled_functions_share_a_name():
    """Cached code of several processes is linked by name: bias_tanh once ran as bias_sigmoid."""
    seen = {}
    for family in ("activations", "losses", "optimizers", "gemm", "matrix", "metrics", "data"):
        module = import_module(f"gpubp.kernels.numba.{family}")
        for function in vars(module).values():
            body = getattr(function, "py_func", None)
            if body is not None:
                name = f"{body.__module__}.{body.__qualname__}"
                assert seen.setdefault(name, function) is function, name
                assert "<locals>" not in name
