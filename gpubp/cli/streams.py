"""The standard streams as a command finds them: closed, full, or in a folder that is gone."""

from __future__ import annotations

import os
import sys

from gpubp.errors import GpubpError


def open_closed() -> None:
    """Open the null device in place of standard streams that are closed.

    Else the next file that is opened would take their number, and get what is written to them.
    """
    modes = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}
    for number, (name, mode) in modes.items():
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def check_folder() -> None:
    """Check that the working directory is there.

    Raises:
        GpubpError: it was removed, so that no relative path leads anywhere.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise GpubpError(
            "the working directory is gone; change to one that is there, such as: cd ~"
        ) from error
