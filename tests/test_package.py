"""The wheel holds the whole package, and what it holds works from anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that no build folder stays behind."""
    source = tmp_path_factory.mktemp("source")
    tracked = ["pyproject.toml", "README.md", "LICENSE", "gpubp", "kernels"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in tracked), str(source)], check=True)
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", target, source],
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    return built


def test_wheel_has_every_module_and_source(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for top, folder in (("gpubp", ROOT / "gpubp"), ("gpubp/kernels", ROOT / "kernels")):
        for path in (found for kind in ("py", "cu", "cuh") for found in folder.rglob(f"*.{kind}")):
            assert f"{top}/{path.relative_to(folder).as_posix()}" in names
    assert "gpubp/py.typed" in names
    assert not any(name.startswith("kernels/") for name in names)


def test_installed_wheel_trains_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, 'site'); import gpubp, numpy as np, pathlib\n"
        "assert pathlib.Path(gpubp.__file__).parts[-3] == 'site', gpubp.__file__\n"
        "x = np.random.default_rng(0).standard_normal((64, 3)); y = (x[:, 0] > 0).astype(int)\n"
        "trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(8, 'relu'), gpubp.Dense(2)))\n"
        "trainer.fit(x, y, epochs=300, batch_size=16)\n"
        "print(trainer.evaluate(x, y)['accuracy'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 0.9
