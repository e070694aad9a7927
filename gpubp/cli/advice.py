"""Errors of the library in the words of the command: options in place of Python's arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

# What can be said in place of an argument that no option is for.
_OTHERWISE = {
    "No checkpoint was kept; callbacks=[Checkpoint(path)] keeps one": "No epoch was saved yet",
    "call fit with resume=False": "train anew with --overwrite",
}


def in_options(message: str, parameters: Iterable[click.Parameter]) -> str:
    """Return a message with ``batch_size=8`` as ``--batch-size 8``, ``device 'cpu'`` likewise.

    Args:
        message: of an error.
        parameters: of the command, whose options are put in. What stands in quotes, such as the
            name of a column, stays.
    """
    for words, others in _OTHERWISE.items():
        message = message.replace(words, others)
    options = {
        parameter.name: f"--{parameter.name.replace('_', '-')}"
        for parameter in parameters
        if isinstance(parameter, click.Option) and parameter.name
    }
    names = "|".join(sorted(options, key=len, reverse=True))
    if not names:
        return message
    # name=value; or name 'value' where that is advice; or a name that no sentence has, batch_size.
    pattern = (
        rf"(?<![\w'\".-])(?P<set>{names})=(?P<quote>['\"]?)(?P<value>[\w.:+-]*\w)(?P=quote)"
        rf"|(?<=use )(?P<use>{names}) '(?P<used>[\w:]+)'"
        rf"|(?<![\w'\".-])(?P<name>\w+_\w+)(?![\w'\"(])"
    )

    def option(found: re.Match[str]) -> str:
        if found["set"]:
            return f"{options[found['set']]} {found['value']}"
        if found["use"]:
            return f"{options[found['use']]} {found['used']}"
        return options.get(found["name"], found[0])

    return re.sub(pattern, option, message)
