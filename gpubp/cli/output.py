"""Where a command's result goes: a file, which is not replaced unasked, or a stream."""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

import click

from gpubp import files
from gpubp.errors import InputError, SaveError

_STANDARD = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Output:
    """A result that is to be written.

    Args:
        path: a file; ``-`` or /dev/stdout for the standard output; or another device, such as the
            pipe of a process substitution, which is written to as it is.
        overwrite: whether a file that is there may be replaced.
        usual: whether nobody named the path: a file that is there is then put aside.

    Raises:
        InputError: it is there, and may not be replaced.
        SaveError: it can't be written.
    """

    def __init__(self, path: Path, *, overwrite: bool, usual: bool) -> None:
        self.path = path
        self._aside = usual and not overwrite
        self.is_standard = str(path) in _STANDARD
        self._is_device = str(path).startswith(("/dev/", "/proc/self/fd/")) and path.exists()
        if self.is_standard or self._is_device:
            return
        if path.is_file() and not (overwrite or usual):
            raise InputError(
                f"{path} is there; name another file with --out, or say --overwrite to replace it"
            )
        files.check_writable(path)

    def say(self, text: str) -> None:
        """Print a line about the result; beside it, where that goes to the standard output."""
        click.echo(text, err=self.is_standard)

    def write(self, text: str) -> None:
        """Write the result.

        Raises:
            SaveError: it can't be written.
        """
        if self.is_standard:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif self._is_device:
            try:
                self.path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise SaveError(f"cannot write {self.path}: {error.strerror}") from error
        else:
            if self._aside and self.path.exists():
                self.say(f"the earlier {self.path} is {self._put_aside()} now")
            files.write(self.path, text.encode())

    def _put_aside(self) -> Path:
        """Give the file that is there another name, and return it."""
        for number in count(1):
            place = self.path.with_stem(f"{self.path.stem}.{number}")
            try:
                # Fails where the name is taken; a rename would replace. And not of a link itself,
                # which leads to what is about to be written.
                os.link(os.path.realpath(self.path), place)
            except FileExistsError:
                continue
            except OSError as error:
                raise SaveError(
                    f"cannot keep {self.path} as {place}: {error.strerror}; name another file with "
                    "--out, or say --overwrite"
                ) from error
            break
        return place
