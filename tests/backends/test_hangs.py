"""Nothing waits for a thread that is not there: forks, sandboxes, ends of interpreters, no threads.

Each case is a process of its own, because what is tested would hang.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

BEGIN = """
import atexit, os, resource, sys, threading, time, warnings
import multiprocessing
import numpy as np
import gpubp

rng = np.random.default_rng(0)
X, y = rng.normal(size=(512, 20)).astype("f4"), rng.integers(0, 3, 512)

def make():
    network = gpubp.Sequential(gpubp.Dense(32, "relu"), gpubp.Dense(3))
    return gpubp.Trainer(
        network, seed=1, device="cpu", backend="numba", threads=2, shares=2, share_by="rows",
        gemm="tiles",
    )

def fit(trainer, epochs=3):
    trainer.fit(X, y, epochs=epochs, batch_size=64)
    return trainer.parameters()

def wait_for(child):
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, code

from gpubp.backends.numba import Pace
Pace.choose = lambda self, steps: (self._ways == 2, steps)  # always on threads
right, longer = fit(make()), fit(make(), 6)
"""

CASES = {
    # Forked at once, while the parent's threads still look for work, and when they sleep.
    "fork and go on": """
for pause in (0.0, 0.2):
    trainer = make()
    fit(trainer)
    time.sleep(pause)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(fit(trainer), longer) else 1)
    wait_for(child)
    assert np.array_equal(fit(trainer), longer)
""",
    "fork and make a new one": """
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(fit(make()), right) else 1)
wait_for(child)
""",
    "a pool of forked processes": """
trainer = make()
fit(trainer)
expected = trainer.predict(X)
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    for answer in pool.map(trainer.predict, [X] * 4):
        assert np.array_equal(answer, expected)
""",
    "processors can't be chosen": """
def refuse(*args):
    raise PermissionError(1, "Operation not permitted")
os.sched_setaffinity = refuse
assert np.array_equal(fit(make()), right)
""",
    "no thread can be started": """
start = threading.Thread.start
def refuse(self):
    if self.name.startswith("gpubp"):
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = refuse
trainer = make()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert np.array_equal(fit(trainer), right)
    assert np.array_equal(fit(make()), right)
assert [str(w.message)[:53] for w in caught] == [
    "no thread can be started (can't start new thread), so"
], caught
threading.Thread.start = start
assert np.array_equal(fit(trainer), longer)
""",
    "at the interpreter's end": """
trainer = make()
fit(trainer)
def last():
    assert np.array_equal(fit(trainer), longer)
    assert np.array_equal(fit(make()), right)
    print("at the end")
atexit.register(last)
""",
    "in a thread that outlives main": """
def late():
    time.sleep(0.3)
    for _ in range(2):
        assert np.array_equal(fit(make()), right)
    print("at the end")
threading.Thread(target=late).start()
""",
}


@pytest.mark.parametrize("when", ["atexit.register(late)", "threading.Thread(target=late).start()"])
def test_the_first_training_is_as_the_interpreter_ends(when: str) -> None:
    """What of gpubp and of other libraries is imported only then must be so that it can be."""
    code = f"""
import atexit, threading, time
import numpy as np, gpubp

def late():
    time.sleep(0.3)
    network = gpubp.Sequential(gpubp.Dense(8, "relu"), gpubp.Dense(2))
    trainer = gpubp.Trainer(network, device="cpu", threads=2, shares=2, share_by="rows")
    trainer.fit(np.eye(8, dtype="f4"), np.arange(8) % 2, epochs=2, batch_size=4)
    trainer.save("m.safetensors")
    print(len(gpubp.Trainer.load("m.safetensors").history))

{when}
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_it_ends_with_the_right_result(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + CASES[case]],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    if "at the end" in CASES[case]:
        assert done.stdout == "at the end\n"
