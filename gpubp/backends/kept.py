"""Times that were measured on this machine, kept on disk so that they are measured once.

What is chosen by them changes the last bits of a result. So that the same script gives the same
bits in every process, the first that measures something writes it down, and all others go by that,
those that measured it at the same time too. A file has a digest of the times in it. Of too many
files those go that were not read for the longest time; what they held is measured again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from gpubp import interrupts
from gpubp.errors import warn

Times = dict[str, float]  # seconds, by what took so long

MOST_FILES = 2000  # of a fraction of a kilobyte each, which takes 4 on most disks


class Kept:
    """A folder with a file for each thing that was measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said = False  # that nothing can be kept

    def times(self, name: str, measure: Callable[[], Times]) -> Times:
        """Return the times of a name; if there are none, those of ``measure``, which are kept.

        Where they can't be kept there are none, for they would be others in the next process; nor
        is what could not be measured now, which is no time at all.
        """
        path = self.folder / f"{name}.json"
        try:
            found = _read(path)
            if found is None:
                interrupts.hear()
                self.folder.mkdir(mode=0o700, exist_ok=True)
                if not os.access(self.folder, os.W_OK):  # before time is spent
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                measured = measure()
                found = _write(path, measured) if measured else {}
        except OSError as error:
            if self._said:
                return {}
            self._said = True
            warn(
                f"measured times can't be kept in {self.folder} ({error.strerror}), so nothing "
                "new is chosen by them. Set GPUBP_CACHE_DIR to a folder that can be written.",
                RuntimeWarning,
            )
            return {}
        return found


def _read(path: Path) -> Times | None:
    """Return the times in a file; None if it is not there, or holds something else."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        times = {str(name): float(seconds) for name, seconds in content["seconds"].items()}
        if content["digest"] != _digest(times):
            raise ValueError("the times are not those of its digest")
        if not all(0 <= seconds < math.inf for seconds in times.values()):
            raise ValueError("a time is negative or not finite")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        warn(
            f"{path} is damaged ({error}); what it held is measured again, and results may differ "
            "in their last bits from those before",
            RuntimeWarning,
        )
        path.unlink(missing_ok=True)
        return None
    with contextlib.suppress(OSError):  # where it can only be read, nothing is removed either
        os.utime(path)
    return times


def _write(path: Path, times: Times) -> Times:
    """Write the file if there is none yet; return what is in it then."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"seconds": times, "digest": _digest(times)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:  # another process was first
        return _read(path) or times
    finally:
        os.unlink(temporary)
    _prune(path.parent)
    return times


def _prune(folder: Path) -> None:
    """Remove half of the files if there are too many, also those that a process left half done."""
    with os.scandir(folder) as entries:
        files = [entry.path for entry in entries]
    if len(files) > MOST_FILES:
        for path in sorted(files, key=_last_read)[: len(files) // 2]:
            Path(path).unlink(missing_ok=True)


def _last_read(path: str) -> float:
    """Return when a file was last read, by :func:`_read`."""
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:  # another process has removed it
        return 0.0


def _digest(times: Times) -> str:
    return hashlib.sha256(json.dumps(times, sort_keys=True).encode()).hexdigest()
