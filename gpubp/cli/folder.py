"""The folder of a run: its files, the lock that keeps two processes apart, and what it holds."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import click

from gpubp import checkpoint, files
from gpubp.cli import model
from gpubp.cli.options import Options, differing
from gpubp.data import datasets
from gpubp.data.prepare import Recipe
from gpubp.errors import CheckpointError, GpubpError, InputError, SaveError

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system that has none


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a run."""

    folder: Path

    @property
    def model(self) -> Path:
        """The model, written after every epoch."""
        return self.folder / model.FILE

    @property
    def history(self) -> Path:
        """The losses and metrics of every epoch."""
        return self.folder / "history.csv"

    @property
    def curves(self) -> Path:
        """Their picture."""
        return self.folder / "curves.png"

    def way_to(self, data: str) -> str | None:
        """Return the way from the folder to a file of data; None for data of another kind."""
        if data in datasets.NAMES or not os.path.isfile(data):
            return None
        return os.path.relpath(os.path.realpath(data), os.path.realpath(self.folder))

    def found(self, data: str, way: object) -> str:
        """Return where the data of a run are, seen from here: by the way, else as they were named.

        A file that is there by now and holds something else is refused later, by its content.
        """
        if isinstance(way, str):
            file = os.path.normpath(os.path.join(os.path.realpath(self.folder), way))
            if os.path.isfile(file):
                return os.path.relpath(file)
        return data

    def check(self) -> None:
        """See that the files can be written, before time is spent on training.

        Raises:
            SaveError: they can't.
        """
        for path in (self.model, self.history, self.curves):
            files.check_writable(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a run's folder and keep other processes from writing to it.

    Raises:
        InputError: another process writes to it; which one is said.
        SaveError: it can't be made or written to.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _lock(path)
    except OSError as error:
        raise SaveError(
            f"cannot write to the folder {str(folder)!r}: {error.strerror}; choose another with "
            "--out"
        ) from error
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who has opened it by now tries again
        os.close(handle)


def _lock(path: Path) -> int:
    """Return the lock's file, open and held."""
    # Not through a link, and not waiting for the other end of a pipe.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        handle = os.open(path, flags, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EEXIST, f"{path.name} there is not a file")
            _hold(handle, path.parent)
            if _still_there(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _hold(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        who = f"process {owner}" if owner else "another process"
        raise InputError(
            f"{who} trains in {folder} just now; wait for it, or name another folder with --out"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        click.echo(f"gpubp: warning: {folder} can't be locked: run one process in it", err=True)


def _still_there(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class Held:
    """What is in a folder that a new run is to be written to.

    Attributes:
        same: whether it is that very run, with the same options and the same data.
        complete: whether it has ended.
        epoch: how many epochs are done.
        what: a phrase that says what it is.
    """

    same: bool
    complete: bool
    epoch: int
    what: str


def held(paths: Files, now: Options, recipe: Recipe) -> Held | None:
    """Return what a run's folder holds; None if there is no model.

    Args:
        paths: the run's files.
        now: its options, all of them settled.
        recipe: how its data are prepared, and their fingerprint.
    """
    if not paths.model.exists():
        return None
    try:
        document = checkpoint.load(paths.model)[1]
        values = dict(document["extra"]["options"])
        before = Options(**{**values, "hidden": tuple(values["hidden"])})
        complete, epoch = bool(document["extra"]["complete"]), int(document["epoch"])
        known = Recipe.from_json(document["extra"]["recipe"])
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        said = f" ({error})" if isinstance(error, GpubpError) else ""
        return Held(False, False, 0, f"a model that is not of 'gpubp train'{said}")
    if known.fingerprint == recipe.fingerprint:
        before = replace(before, data=now.data)  # however they are named by now
    differences = differing(before, now)
    if not differences and known.fingerprint != recipe.fingerprint:
        differences = [f"{now.data} has other content by now"]
    return Held(
        not differences, complete, epoch, f"the model of another run ({'; '.join(differences)})"
    )


def refuse(paths: Files, found: Held) -> InputError:
    """Return the error for a run that would replace another, or itself half way."""
    otherwise = "name another folder with --out, or train anew with --overwrite"
    if not found.same:
        return InputError(f"{paths.folder} holds {found.what}; {otherwise}")
    return InputError(
        f"{paths.folder} holds this very run, stopped after epoch {found.epoch}; 'gpubp train "
        f"--resume --out {paths.folder}' goes on with it; {otherwise}"
    )


def put_aside(paths: Files) -> Path:
    """Move the files of an earlier run to a folder of their own, beside; return it.

    Raises:
        SaveError: they can't be moved.
    """
    for number in count(1):
        place = paths.folder.with_name(f"{paths.folder.name}.{number}")
        try:
            place.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise SaveError(f"cannot make {place}: {error.strerror}; say --overwrite") from error
        break
    for path in (paths.history, paths.curves, paths.model):
        if path.exists():
            try:
                path.rename(place / path.name)
            except OSError as error:
                raise SaveError(
                    f"cannot move {path} to {place}: {error.strerror}; say --overwrite, or name "
                    "another folder with --out"
                ) from error
    return place
