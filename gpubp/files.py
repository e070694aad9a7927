"""Files that are written whole or not at all, whatever happens meanwhile.

The bytes go to a temporary file beside the target, reach the disk, and only then take the target's
name. The temporary's name is fixed, so one that a killed process left behind is used up by the next
save; a lock on it keeps two processes that save to one target apart.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gpubp.errors import SaveError

_REMEDIES = {
    errno.ENOSPC: "free some space on that disk, or choose another place",
    errno.EDQUOT: "free some of your quota, or choose another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or choose another file system",
    errno.ENOENT: "make that folder first",
    errno.ENOTDIR: "choose another place",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system that has none


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Make ``data`` the content of the file at ``path``; a link is followed, and stays one.

    A file that is there keeps its permissions: who may read a new one is up to the umask.

    Raises:
        SaveError: it could not be written; what was there before is still there.
    """
    with _replacing(path) as (file, temporary, target):
        with suppress(FileNotFoundError):
            os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))  # before it has content
        file.truncate(0)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, target)
    _sync(target)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now the error that :func:`write` would raise for a path that cannot be written to.

    Raises:
        SaveError: the folder is not there, may not be written to, or the path is not a file's.
    """
    with _replacing(path) as (_, temporary, _):
        temporary.unlink()


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, Path, Path]]:
    """Yield the temporary file, its path and the target's; remove the temporary on any failure."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EEXIST, "what is there is not a file")
        with _alone(temporary) as file:
            try:
                yield file, temporary, target
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise SaveError(
            f"cannot write {target} (through {temporary}): {error.strerror or error}; what was "
            f"there before is untouched; {_REMEDIES.get(error.errno or 0, 'choose another path')}"
        ) from error


@contextmanager
def _alone(temporary: Path) -> Iterator[BinaryIO]:
    """Open the temporary file, keeping its content, when no other process has it any more."""
    while True:
        with open(temporary, "ab", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EEXIST, f"{temporary.name} there is not a file")
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if _still_there(file, temporary):
                yield file
                return


def _open(path: str, flags: int) -> int:
    # Not through a link, and not waiting for the other end of a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _still_there(file: BinaryIO, temporary: Path) -> bool:
    """Return whether no one renamed or removed the file while this process waited for the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(temporary))
    except FileNotFoundError:
        return False


def _sync(target: Path) -> None:
    """Make the new name of a file last: it is an entry in its folder."""
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SaveError(
            f"{target} is written, but its folder could not be synced ({error.strerror}), so it "
            "may not outlive a power cut; check the disk"
        ) from error
