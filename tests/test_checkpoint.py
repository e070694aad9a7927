"""Model files: exact round trips, and no damage of any kind that goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save as safetensors

from gpubp import checkpoint
from gpubp.errors import CheckpointError, InputError, SaveError

SMALL = {"W": np.array([[1.5, -2.0]], np.float32), "step": np.array([7])}
DOCUMENT = {"layers": [{"name": "dense", "units": 1}], "seed": 3}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
arrays = st.sampled_from(checkpoint.DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
names = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.gpubp"
    checkpoint.save(path, SMALL, DOCUMENT)
    return path


def refusal(path: Path, data: bytes | None = None) -> str:
    """Return the message with which a file is refused; it names the path and a remedy."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message
    return message


def assert_same(loaded: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert loaded.keys() == expected.keys()
    for name, array in expected.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.writeable


@given(st.dictionaries(names, arrays, max_size=4), st.dictionaries(st.text(), json_values))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, np.ndarray],
    document: dict[str, Any],
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.gpubp"
    checkpoint.save(path, tensors, document)
    loaded, read = checkpoint.load(path)
    assert_same(loaded, tensors)
    assert json.dumps(read) == json.dumps(document)  # by text: NaN is not equal to itself


def test_layout_and_byte_order_do_not_matter(tmp_path: Path) -> None:
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    views = {
        "fortran": np.asfortranarray(plain),
        "big": plain.astype(">f4"),
        "every": plain[:, ::2],
    }
    checkpoint.save(tmp_path / "a", views, {})
    loaded, _ = checkpoint.load(tmp_path / "a")
    assert_same(loaded, {"fortran": plain, "big": plain, "every": plain[:, ::2].copy()})


def test_the_same_content_is_the_same_file(tmp_path: Path, saved: Path) -> None:
    checkpoint.save(tmp_path / "again", SMALL, DOCUMENT)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_other_tools_can_read_it(saved: Path) -> None:
    with safe_open(saved, framework="np") as file:
        version, digest, body = file.metadata()["gpubp"].split(" ", 2)
        assert version == "2"
        assert digest == hashlib.sha256(body.encode()).hexdigest()
        assert json.loads(body)["document"] == DOCUMENT
        np.testing.assert_array_equal(file.get_tensor("W"), SMALL["W"])


def test_every_truncation_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in range(len(whole)):
        message = refusal(saved, whole[:length])
        assert "cut short" in message or (length == 0 and "empty" in message)


def test_every_flipped_bit_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    unnoticed = []
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            saved.write_bytes(damaged)
            try:
                checkpoint.load(saved)
            except CheckpointError:
                continue
            unnoticed.append((place, bit))
    assert not unnoticed, unnoticed


@given(st.data())
def test_arbitrary_damage_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.gpubp"
    checkpoint.save(path, SMALL, DOCUMENT)
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    if damaged != whole:
        refusal(path, damaged)


def entry(body: str | None = None, version: str = "2", digest: str | None = None) -> dict[str, str]:
    """Return the metadata of a file of ``SMALL``, right but for what is given."""
    if body is None:
        digests = {name: checkpoint._tensor_digest(array) for name, array in SMALL.items()}
        body = json.dumps({"document": DOCUMENT, "sha256": digests})
    return {"gpubp": f"{version} {digest or hashlib.sha256(body.encode()).hexdigest()} {body}"}


def digests(**table: str) -> str:
    return json.dumps({"document": {}, "sha256": table})


def test_the_crafted_files_below_differ_from_good_ones_only_as_they_say(saved: Path) -> None:
    assert safetensors(SMALL, entry()) == saved.read_bytes()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "safetensors file, but not a gpubp model"),
        ({}, "safetensors file, but not a gpubp model"),
        ({"format": "pt"}, "safetensors file, but not a gpubp model"),
        (entry(version="3"), "version 3 is newer than those .*, 1 and 2; upgrade gpubp"),
        (entry(version="0"), "version 0 is older"),
        (entry(version="one"), "corrupt .version 'one'"),
        (entry(version="9" * 5000), "corrupt .version '9{9}'"),
        ({"gpubp": ""}, "corrupt .version ''"),
        ({"gpubp": "1"}, "the document: wrong checksum"),
        (entry(digest="0" * 64), "the document: wrong checksum"),
        (entry("{"), "corrupt"),
        (entry("[1]"), "a JSON object is missing"),
        (entry("{}"), "no document"),
        (entry('{"document": [], "sha256": {}}'), "no document"),
        (entry('{"document": {"a": 1, "a": 2}, "sha256": {}}'), "given twice"),
        (entry("[" * 10**5), "corrupt"),
        (entry(digests()), "tensor 'W' is not of this model"),
        (entry(digests(W="0", step="0")), "tensor '.*': wrong checksum"),
        (entry(digests(W="0", step="0", b="0")), "tensor 'b' is missing"),
    ],
)
def test_crafted_metadata(metadata: dict[str, str] | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "crafted"
    path.write_bytes(safetensors(SMALL, metadata))
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {**SMALL, "W": SMALL["W"].view(np.int32)},
        {**SMALL, "W": SMALL["W"].T.copy()},
        {"W": SMALL["W"], "steps": SMALL["step"]},
        {"W": SMALL["W"]},
    ],
    ids=["dtype", "shape", "name", "fewer"],
)
def test_the_checksum_covers_dtype_shape_and_name(
    tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert "corrupt" in refusal(tmp_path / "a", safetensors(tensors, entry()))


def test_a_name_given_twice_in_the_header(saved: Path) -> None:
    whole = saved.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length].rstrip()
    entry = json.dumps({"W": json.loads(header)["W"]}).encode()[1:-1]
    header = header[:-1] + b"," + entry + b"}"
    header += b" " * (-len(header) % 8)
    data = len(header).to_bytes(8, "little") + header + whole[8 + length :]
    assert "given twice" in refusal(saved, data)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(_Bomb()),
        b"PK\x03\x04" + b"\0" * 60,
        b"a,b\n1,2\n" * 10,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 60,
        b"\xff" * 100,
        bytes(100),
    ],
    ids=["pickle", "zip", "csv", "png", "ones", "zeros"],
)
def test_foreign_files(data: bytes, tmp_path: Path) -> None:
    assert "not a gpubp model" in refusal(tmp_path / "foreign", data)


def test_a_dtype_of_safetensors_that_numpy_has_not(tmp_path: Path) -> None:
    header = json.dumps(
        {"__metadata__": entry(), "W": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}
    ).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0\0"
    assert "corrupt" in refusal(tmp_path / "bf16", data)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "nothing")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "document", "words"),
    [
        ({"a": np.array(["x"])}, {}, "tensor 'a' of dtype <U1"),
        ({"a": np.array([None])}, {}, "dtype object"),
        ({"a": np.zeros(1, np.complex128)}, {}, "complex128"),
        ({"__metadata__": np.zeros(1)}, {}, "'__metadata__' is not a name"),
        ({}, {"a": {1, 2}}, "document as JSON"),
        ({}, {"a": np.float32(1)}, "float32 is not JSON"),
    ],
)
def test_what_cannot_be_stored(
    tensors: dict[str, np.ndarray], document: dict[str, Any], words: str, saved: Path
) -> None:
    before = saved.read_bytes()
    with pytest.raises(InputError, match=words):
        checkpoint.save(saved, tensors, document)
    assert saved.read_bytes() == before


def test_a_failed_save_leaves_the_model_loadable(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SaveError, match="No space left"):
            checkpoint.save(saved, {"W": np.zeros(1000)}, {})
    assert_same(checkpoint.load(saved)[0], SMALL)


_SAVE_FOR_EVER = """
import itertools, sys
import numpy as np
from gpubp import checkpoint
for n in itertools.count(1):
    checkpoint.save(sys.argv[1], {"a": np.full(200_000, n), "b": np.full(3, -n)}, {"n": n})
    print(n, flush=True)
"""


def test_killed_at_any_moment_the_file_is_whole_and_no_older_than_the_last_save(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.gpubp"
    moments = random.Random(0)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _SAVE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
            time.sleep(moments.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            last = ["1", *process.stdout.read().split()][-1]
        tensors, document = checkpoint.load(path)
        assert document["n"] >= int(last)
        assert np.all(tensors["a"] == document["n"])
        assert np.all(tensors["b"] == -document["n"])
        assert set(os.listdir(tmp_path)) <= {path.name, f".{path.name}.tmp"}
    checkpoint.save(path, SMALL, DOCUMENT)
    assert os.listdir(tmp_path) == [path.name]


def test_importing_it_imports_no_safetensors() -> None:
    code = "import sys, gpubp.checkpoint; assert 'safetensors' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
