"""A run repeats bit for bit for one number of threads, whatever the environment has BLAS do."""

import os
import subprocess
import sys

import pytest

CODE = """
import hashlib, os, sys
backend, threads, cores = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
import numpy as np
import gpubp
rng = np.random.default_rng(1)
X, y = rng.standard_normal((256, 500)), rng.integers(0, 10, 256)
trainer = gpubp.Trainer(
    gpubp.Sequential(
        gpubp.Dense(256, "relu", initializer="orthogonal"), gpubp.Dense(128), gpubp.Dense(10)
    ),
    device="cpu", backend=backend, threads=threads, shares=threads, gemm="blas", share_by="rows",
    precision="fp64", seed=5,
)
trainer.fit(X, y, epochs=2, batch_size=128)
print(hashlib.sha256(trainer.parameters().tobytes()).hexdigest())
"""


def bits(backend, threads, blas_threads, cores):
    """Return a digest of the weights that two epochs give."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    if blas_threads is not None:
        environment |= {
            name: str(blas_threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
    line = [sys.executable, "-c", CODE, backend, str(threads), str(cores)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity of processes here")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_bits_are_those_of_the_trainers_threads(backend, threads):
    found = {bits(backend, threads, *how) for how in ((None, 4), (1, 4), (2, 4), (None, 1))}
    assert len(found) == 1
