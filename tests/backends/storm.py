"""Trains under a storm of Ctrl-C, resuming after each; a test runs it as a process of its own.

Prints the number of interruptions; exits with 1 if the result is not that of a quiet run.
"""

import os
import random
import signal
import sys
import threading
import time

import numpy as np
from networks import data, make

from gpubp import Dense, Dropout
from gpubp.backends import numba_choices

numba_choices.MINIMUM_FLOPS = 0
numba_choices.MINIMUM_ROWS = 1
WAY, EPOCHS = sys.argv[1], int(sys.argv[2])
X, y = data()
OPTIONS = {"epochs": EPOCHS, "batch_size": 7, "validation_data": (X[:9], y[:9])}
CLOCK = ("seconds", "samples_per_second")
sys.setswitchinterval(1e-4)  # so that the storm is heard while the training has the interpreter


class Storm:
    """Presses Ctrl-C now and then while it is on; the first that counts calms it."""

    def __init__(self):
        self.on = False
        self.pressed = 0
        signal.signal(signal.SIGINT, self.count)
        threading.Thread(target=self.blow, daemon=True).start()

    def count(self, number, frame):
        if self.on:
            self.on = False
            raise KeyboardInterrupt

    def blow(self):
        moments = random.Random(0)
        while True:
            time.sleep(moments.uniform(0.0005, 0.005))
            if self.on:
                self.pressed += 1
                os.kill(os.getpid(), signal.SIGINT)


def trainer():
    return make(WAY, Dense(4, "relu"), Dropout(0.3), Dense(3), precision="fp64")


def records(trainer):
    return [{k: v for k, v in r.items() if k not in CLOCK} for r in trainer.history.records]


quiet, stormy = trainer(), trainer()
quiet.fit(X, y, **OPTIONS)
storm = Storm()
while stormy.epoch < EPOCHS:
    try:
        storm.on = True
        stormy.fit(X, y, resume=stormy._run is not None, **OPTIONS)
        storm.on = False
    except KeyboardInterrupt:
        pass
storm.on = False
print(storm.pressed)
same = np.array_equal(quiet.parameters(), stormy.parameters())
sys.exit(0 if same and records(quiet) == records(stormy) else 1)
