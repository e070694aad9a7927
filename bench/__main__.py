"""Runs the suite, keeps its result in results/ and prints it: ``python bench``.

--show FILE prints an earlier result. All else goes to pytest: ``python bench --quick -k step``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

import report
from gpubp.bench import environment

_HERE = Path(__file__).resolve().parent


def main() -> int:
    """Return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--name", help="of the file in results/ (default: the hardware's)")
    parser.add_argument("--show", metavar="FILE", type=Path, help="print this result, run nothing")
    options, others = parser.parse_known_args()
    console = Console()
    if not console.is_terminal:
        console.width = 100
    if options.show:
        report.show(json.loads(options.show.read_text(encoding="utf-8")), console)
        return 0
    name = options.name or environment.hardware_name() + "-quick" * options.quick
    file = _HERE / "results" / f"{name}.json"
    with TemporaryDirectory() as folder:
        fresh = Path(folder) / file.name  # an earlier result stays until there is a new one
        code = _pytest(fresh, ["--quick"] * options.quick + others)
        text = fresh.read_text(encoding="utf-8") if fresh.exists() else ""
    if text:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        report.show(json.loads(text), console)
        console.print(f"written to {file.relative_to(_HERE.parent)}")
    return code


def _pytest(file: Path, options: list[str]) -> int:
    """Run the suite; return pytest's exit code."""
    # -P: else the folder gpubp/ beside bench/ would be imported, not the package that is installed.
    command = [sys.executable, "-P", "-m", "pytest", str(_HERE), "-v", "-rs", "--no-header"]
    command += ["--benchmark-quiet", f"--benchmark-json={file}", *options]
    return subprocess.run(command, cwd=_HERE.parent, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
