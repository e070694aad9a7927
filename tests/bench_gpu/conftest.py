"""What stands in for a machine with a GPU, and the script's modules."""

import json
import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from host_cuda import build
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
NEEDED = (
    "numpy", "numba", "cupy-cuda13x", "scipy", "scikit-learn", "safetensors", "rich", "pytest",
)  # fmt: skip

# At the end: bench/ has a networks.py, as tests/ has.
sys.path.append(str(ROOT / "bench"))

_SANITIZER = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
"$@" && echo "========= ERROR SUMMARY: 0 errors"
"""


def link_packages(site, names):
    """Put packages of this environment into another one's, with what they need."""
    found = {}
    wanted = list(names)
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # CuPy, in CI
            continue
        requirements = map(Requirement, found[name].requires or ())
        wanted += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    for distribution in found.values():
        tops = {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}
        for top in tops:
            (site / top).symlink_to(distribution.locate_file(top))


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A Python with what the script needs and nothing else: gpubp is not installed either."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    link_packages(site, NEEDED)
    return SimpleNamespace(python=folder / "bin" / "python", site=site)


@pytest.fixture
def sanitizer(tmp_path):
    """A folder with a compute-sanitizer that finds nothing."""
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text(_SANITIZER)
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def script(tmp_path):
    """A function that runs the script on the stand-in and returns exit code and JSON."""
    if build.missing_compiler():
        pytest.skip(build.missing_compiler())

    def run(
        *arguments, python=sys.executable, path="", out=tmp_path / "out.json", stand_in=True
    ):  # fmt: skip
        command = [python, "bench/gpu", *["--stand-in"] * stand_in, "--out", out, *arguments]
        env = os.environ | {"PATH": os.pathsep.join([str(path), os.environ["PATH"]])}
        env.pop("PYTHONPATH", None)
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        content = json.loads(out.read_text()) if out.exists() else None
        return SimpleNamespace(code=done.returncode, said=done.stdout + done.stderr, json=content)

    return run
