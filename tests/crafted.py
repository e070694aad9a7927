"""Model files with right digests whose document says something else: run as a process, a fuzzer.

``python crafted.py SEED COUNT`` loads and, where that is accepted, resumes so many mutations of
documents on two backends, under a limit of memory. It prints one line for what was found and exits
with 1 at the first mutation that is neither refused as a CheckpointError nor trains to finite
parameters, within its time.
"""

from __future__ import annotations

import copy
import faulthandler
import json
import math
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gpubp import Dense, Dropout, Sequential, Trainer, checkpoint, state
from gpubp.callbacks import EarlyStopping
from gpubp.errors import CheckpointError, InputError

SECONDS = 5  # a mutation may take: one that hangs takes for ever
MEMORY = 3 << 30  # of address space, of which libraries and their threads take most
X, Y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 3
NUMBERS: list[Any] = [
    0, 1, -1, 2, 7, 31, 32, 1000, 10**6, -(10**6), 10**9, 2**31, 2**40, -(2**40), 2**53, 2**62,
    -(2**62), 2**63 - 1, 2**63, 2**64, 2**70, 10**30, 10**400, 0.5, 1.5, -0.0, 1e-300, 1e300,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
OTHERS: list[Any] = [
    None, True, False, "", "a", "adam", "numba", "tiles", "1", "2 by rows", "2 by units",
    "64 by rows", "0 by rows", "x by units", "../../etc", "ä" * 300, [], {}, [1], [[]], {"a": 1},
    [None], {"name": "dense", "units": 3}, {"name": "cosine"}, [1.0] * 5000,
]  # fmt: skip


def interrupted(trainer: Trainer, record: dict[str, float]) -> None:
    if record["epoch"] == 3:
        raise KeyboardInterrupt


def seeds() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return tensors and documents of runs that were interrupted, whose histories have gaps."""
    made = []
    for schedule, optimizer, shares in (("cosine", "adam", 1), ("reduce_on_plateau", "sgd", 2)):
        network = Sequential(Dense(16, "relu"), Dropout(0.2), Dense(3))
        trainer = Trainer(
            network, optimizer=optimizer, schedule=schedule, backend="numba", threads=2,
            shares=shares, gemm="tiles", device="cpu",
        )  # fmt: skip
        trainer.fit(X, Y, epochs=1, batch_size=16)
        try:
            trainer.fit(
                X, Y, epochs=3, batch_size=16, validation_data=(X, Y),
                callbacks=[EarlyStopping("loss"), interrupted],
            )  # fmt: skip
        except KeyboardInterrupt:
            tensors, document = state.collect(trainer)
        made.append((tensors, json.loads(json.dumps(document))))
    # The last one again as format 1 had it, with the history in the document.
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("history.")}
    made.append((others, json.loads(json.dumps(document | {"history": trainer.history.records}))))
    return made


def a_place(value: Any, draw: random.Random) -> list[Any]:
    """Return the path of a value within a document."""
    path: list[Any] = []
    while isinstance(value, dict | list) and value and (not path or draw.random() < 0.8):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        path.append(draw.choice(keys))
        value = value[path[-1]]
    return path


def mutate_history(tensors: dict[str, Any], document: dict[str, Any], draw: random.Random) -> str:
    """Change columns of the history together, or one of them; return what was changed."""
    names = sorted(name for name in tensors if name.startswith("history."))
    if not names:
        return "no columns"
    change = draw.choice(["times", "all", "cut", "empty", "gone", "bytes", "there", "swapped"])
    if change in ("times", "all"):  # and the document agrees, at times with more than its epochs
        times = draw.choice([0, 1, 2, 1000 if len(tensors[names[0]]) < 100 else 1])
        for name in names:
            tensors[name] = np.tile(tensors[name], times)
        if isinstance(document.get("history"), dict):
            document["history"]["records"] = len(tensors[names[0]])
        if change == "all":
            document.update(epoch=draw.choice([3, 10**4, 2**53]), run=None)
        return f"the history {change} {times}"
    name = draw.choice(names)
    if change == "cut":
        tensors[name] = tensors[name][:-1]
    elif change == "empty":
        tensors[name] = tensors[name][:0]
    elif change == "gone":
        del tensors[name]
    elif change == "bytes":
        words = [draw.choice([0, 1, 2, 255, 2**53 + 1, 2**63 - 1]) for _ in tensors[name]]
        tensors[name] = np.array(words).astype(tensors[name].dtype)
    elif change == "there":
        place = name.removesuffix(".there") + ".there"
        tensors[place] = np.zeros(draw.choice([2, 3, 4]), draw.choice(["bool", "uint8", "int64"]))
    else:
        other = draw.choice(names)
        tensors[name], tensors[other] = tensors[other], tensors[name]
    return f"{name}: {change}"


def mutate_tensors(tensors: dict[str, Any], draw: random.Random) -> str:
    """Change a tensor; return what was changed."""
    name = draw.choice(sorted(tensors))
    tensor = tensors[name]
    change = draw.choice(["float64", "complex64", "int8", "bool", "longer", "flat", "nan"])
    if change == "longer":
        tensors[name] = np.concatenate([tensor, tensor])
    elif change == "flat":
        tensors[name] = tensor.ravel()[:, None]
    elif change == "nan":
        tensors[name] = np.full_like(tensor, draw.choice([np.nan, np.inf, -1e30, 1e30]))
    else:
        tensors[name] = tensor.astype(change)
    if draw.random() < 0.2:
        tensors[draw.choice(["W9", "callback.x.y", "", "optimizer.q"])] = tensors.pop(name)
    return f"{name}: {change}"


def mutate(document: dict[str, Any], draw: random.Random) -> str:
    """Change something of a document; return what."""
    path = a_place(document, draw)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    kind = draw.random()
    if kind < 0.08:
        del holder[path[-1]]
        return f"{path} left out"
    old = holder[path[-1]]
    if kind < 0.14 and isinstance(holder, dict):
        holder[f"{path[-1]}_"] = old
        return f"{path} twice"
    if kind < 0.18 and isinstance(old, list) and old:
        holder[path[-1]] = old * draw.choice([2, 50, 3000])
        return f"{path} longer"
    if kind < 0.21:
        value: Any = copy.deepcopy(old)
        for _ in range(draw.choice([3, 40, 300])):
            value = draw.choice([lambda v: [v], lambda v: {"name": "warmup", "then": v}])(value)
    else:
        near = [old + d for d in (-16, -2, -1, 1, 2, 16)] if type(old) in (int, float) else []
        value = draw.choice([*NUMBERS, *near, *near] if draw.random() < 0.7 else OTHERS)
    holder[path[-1]] = value
    return f"{path[:6]} = {repr(value)[:60]}"


def outcome(path: Path, backend: str) -> str:
    """Load a file and go on with its run; return what came of it."""
    try:
        trainer = Trainer.load(path, device="cpu", backend=backend)
    except CheckpointError:
        return "refused"
    assert np.isfinite(trainer.parameters()).all()
    trainer.predict(X)
    history = trainer.history
    assert len(history.records) == len(history)
    history.to_csv(path.with_name("history.csv"))
    assert {len(history.column(name)) for name in history.names} <= {len(history)}
    trainer.save(path)
    assert Trainer.load(path, device="cpu", backend=backend).history == history
    if trainer._run is None:
        return "finished"
    run = trainer._run
    if run.rows > len(X) or run.epochs > 50 or trainer.network.outputs(3) < 3:
        return "not of these data"
    try:
        trainer.fit(
            X, Y, epochs=min(run.epochs, trainer.epoch - run.first_epoch + 2),
            batch_size=run.batch_size, callbacks=[EarlyStopping("loss")], resume=True,
        )  # fmt: skip
    except (CheckpointError, InputError):
        return "refused to go on"
    except ArithmeticError:
        return "not finite"
    return "went on"


def main(seed: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    draw, found, started = random.Random(seed), Counter[str](), time.monotonic()
    documents = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        for number in range(count):
            tensors, document = copy.deepcopy(draw.choice(documents))
            said = []
            for _ in range(draw.choice([1, 1, 1, 2, 4])):
                kind = draw.random()
                if kind < 0.1:
                    said.append(mutate_tensors(tensors, draw))
                elif kind < 0.25:
                    said.append(mutate_history(tensors, document, draw))
                else:
                    said.append(mutate(document, draw))
            try:
                checkpoint.save(path, tensors, document)
            except InputError:
                continue  # no file can say this
            backend = draw.choice(["numpy", "numba"])
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            sys.stderr.write(f"\r{number}: {said}, {backend}\x1b[K")
            found[outcome(path, backend)] += 1
            faulthandler.cancel_dump_traceback_later()
    print(json.dumps({**found, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main(int(sys.argv[1]), int(sys.argv[2]))
