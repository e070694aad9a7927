"""The file of a model: named tensors and one JSON document, in the safetensors format.

safetensors itself does not notice a flipped bit. So its metadata has one entry, ``gpubp``, that
reads "version digest body": the body is JSON, ``{"document": …, "sha256": {tensor: digest}}``, and
the first digest is the body's. (One entry, because safetensors writes several in random order.)
The header that it stands in has an end, so what grows with a run belongs into tensors.

This module knows nothing of what the document says. Nothing in a file names code or another file,
and nothing but JSON and plain arrays is read from one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp import files
from gpubp.errors import CheckpointError, InputError, SaveError

VERSION = 2
READ = ("1", "2")  # versions whose documents can be read; 1 had the history in its document
_HEADER = 100_000_000  # bytes, of which no safetensors reads more
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64",
)  # fmt: skip
_RESTORE = "restore it from a copy, or train again"


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], document: Mapping[str, Any]
) -> None:
    """Write tensors and a document to ``path``, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        tensors: arrays of a dtype of ``DTYPES``, any shape; NaN and infinity are kept.
        document: JSON values; floats that are NaN or infinite are kept, too.

    Raises:
        InputError: a tensor's name or dtype, or a value in the document, cannot be stored.
        SaveError: the file could not be written, or the document is too large to be read again;
            what was there before is still there.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 (keeps the import light)
    from safetensors.numpy import save as serialize  # noqa: PLC0415

    arrays = {
        name: np.asarray(tensor, tensor.dtype.newbyteorder("="), order="C")
        for name, tensor in tensors.items()
    }
    for name, array in arrays.items():
        if name == "__metadata__" or array.dtype.name not in DTYPES:
            raise InputError(
                f"cannot store tensor {name!r} of dtype {array.dtype}; the dtypes of a model file "
                f"are {', '.join(DTYPES)}, and '__metadata__' is not a name"
            )
    digests = {name: _tensor_digest(array) for name, array in arrays.items()}
    try:
        body = json.dumps({"document": document, "sha256": digests})
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot store the document as JSON: {error}") from error
    try:
        data = serialize(arrays, {"gpubp": f"{VERSION} {_digest(body)} {body}"})
        header = int.from_bytes(data[:8], "little")
    except SafetensorError:  # late versions refuse what none can read, early ones write it
        header = max(len(body), _HEADER + 1)
    if header > _HEADER:
        raise SaveError(
            f"cannot write {os.fspath(path)}: what describes the model takes {header:,} bytes or "
            f"more, of which {_HEADER:,} could be read again; keep less in 'extra' and in the "
            "states of callbacks. What was there before is untouched"
        )
    files.write(path, data)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors and the document that :func:`save` wrote to ``path``.

    Raises:
        CheckpointError: the file is not there, cannot be read, is empty, cut short, corrupt,
            foreign or of another version.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        body = _body(data)
        return _tensors(data, body["sha256"]), body["document"]
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{os.fspath(path)}: there is no such file; check the path"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{os.fspath(path)}: cannot be read ({error.strerror}); check path and permissions"
        ) from error
    except _Problem as problem:
        raise CheckpointError(f"{os.fspath(path)}: {problem}") from problem.__cause__


class _Problem(Exception):
    """What is wrong with a file's content, and what to do."""


def _body(data: bytes) -> dict[str, dict[str, Any]]:
    """Return the body of the one entry of the metadata, from the file's header alone."""
    if not data:
        raise _Problem(f"the file is empty; {_RESTORE}")
    end = 8 + int.from_bytes(data[:8], "little")
    if data[8:9] not in (b"{", b""):
        raise _Problem("this is not a gpubp model file; check the path")
    if len(data) < max(end, 9):
        raise _Problem(f"the file is cut short; {_RESTORE}")
    metadata = _json(data[8:end]).get("__metadata__")
    entry = metadata.get("gpubp") if isinstance(metadata, dict) else None
    if not isinstance(entry, str):
        raise _Problem("this is a safetensors file, but not a gpubp model; check the path")
    version, _, rest = entry.partition(" ")
    _check_version(version)
    digest, _, text = rest.partition(" ")
    if _digest(text) != digest:
        raise _Problem(f"the file is corrupt (the document: wrong checksum); {_RESTORE}")
    body = _json(text)
    if not all(isinstance(body.get(name), dict) for name in ("document", "sha256")):
        raise _Problem(f"the file is corrupt (no document); {_RESTORE}")
    return body


def _check_version(version: str) -> None:
    if version in READ:
        return
    if not version.isdecimal() or len(version) > 9:
        raise _Problem(f"the file is corrupt (version {version[:9]!r}); {_RESTORE}")
    age, remedy = (
        ("newer", "upgrade gpubp")
        if int(version) > VERSION
        else ("older", "load it with the gpubp that wrote it, or train again")
    )
    raise _Problem(
        f"format version {version} is {age} than those that this gpubp reads, "
        f"{' and '.join(READ)}; {remedy}"
    )


def _tensors(data: bytes, digests: dict[str, Any]) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load as deserialize  # noqa: PLC0415

    try:
        tensors = deserialize(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise _Problem(f"the file is cut short or corrupt ({error}); {_RESTORE}") from error
    for name in sorted(digests.keys() ^ tensors.keys()):
        wrong = "missing" if name in digests else "not of this model"
        raise _Problem(f"the file is corrupt (tensor {name!r} is {wrong}); {_RESTORE}")
    for name, tensor in tensors.items():
        if _tensor_digest(tensor) != digests[name]:
            raise _Problem(f"the file is corrupt (tensor {name!r}: wrong checksum); {_RESTORE}")
    return {name: tensor.copy() for name, tensor in tensors.items()}  # writable


def _json(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object with no name given twice, which parsers otherwise read as they like."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _Problem(f"the file is corrupt ({error}); {_RESTORE}") from error
    if not isinstance(value, dict):
        raise _Problem(f"the file is corrupt (a JSON object is missing); {_RESTORE}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name is given twice")
    return names


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _tensor_digest(array: NDArray[Any]) -> str:
    """Digest dtype, shape and bytes: a changed header must not go unnoticed, either."""
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape}".encode())
    digest.update(array.data)
    return digest.hexdigest()
