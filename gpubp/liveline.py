"""The live line on a terminal: one line, whatever its width, drawn when it is told to."""

from __future__ import annotations

import time
from collections import deque
from typing import TextIO

_LEAST_BAR = 8  # columns; a shorter one says nothing
_SAMPLES = 100  # of progress, by which the speed is known


def fitted(
    width: int, epoch: str, numbers: str, *, left: str, step: str, rate: str
) -> tuple[list[str], int]:
    """Return what has room in a line of ``width`` columns, in its order, and that of the bar.

    Epoch and numbers always; then the time left, a short bar, the step, and the rate. The bar,
    which follows the epoch, gets all that remains; it is 0 where there is no room for one.
    """
    room = width - len(epoch) - len(numbers) - 1
    bar = _LEAST_BAR + 1
    shown = {"left": left if len(left) < room else ""}
    room -= len(shown["left"]) + 1
    if room < bar:
        return [part for part in (epoch, numbers, shown["left"]) if part], 0
    for name, part in (("step", step), ("rate", rate)):
        has_room = bool(part) and room - len(part) - 1 >= bar
        shown[name] = part if has_room else ""
        room -= len(part) + 1 if has_room else 0
    parts = (epoch, shown["step"], numbers, shown["rate"], shown["left"])
    return [part for part in parts if part], room - 1


class LiveLine:
    """A line that shows how far a run is.

    Args:
        out: the terminal.
        total: steps of the run.
        batch_size: rows of a step.
    """

    def __init__(self, out: TextIO, total: int, batch_size: int) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        self._total, self._batch_size = total, batch_size
        self._live = Live(console=Console(file=out), auto_refresh=False)
        self._known: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def start(self) -> None:
        """Take the line."""
        self._live.start()

    def stop(self) -> None:
        """Leave the line as it is, and give the cursor back."""
        self._live.stop()

    def note(self, done: int) -> None:
        """Take note of the steps that are done."""
        self._known.append((time.monotonic(), done))

    def draw(self, epoch: str, step: str, numbers: str) -> None:
        """Draw the line anew."""
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        speed, done = self._speed(), self._known[-1][1]
        rate = f"{speed * self._batch_size:,.0f} samples/s" if speed else ""
        left = _clock((self._total - done) / speed) if speed else "--:--"
        width = self._live.console.width - 1  # else some terminals begin a new line
        parts, bar = fitted(width, epoch, numbers, left=left, step=step, rate=rate)
        line = Table.grid(padding=(0, 1, 0, 0))
        cells = [Text(part, no_wrap=True, overflow="ellipsis") for part in parts]
        if bar:
            line.add_row(cells[0], ProgressBar(self._total, done, width=bar), *cells[1:])
        else:
            line.add_row(*cells)
        self._live.update(line, refresh=True)

    def _speed(self) -> float:
        """Return the steps a second of the last while; 0 if it is not known yet."""
        (start, first), (end, last) = self._known[0], self._known[-1]
        return (last - first) / (end - start) if end > start else 0.0


def _clock(seconds: float) -> str:
    """Return a time as 01:23, or 1:02:03 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
