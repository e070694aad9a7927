"""``python bench/gpu``: see command.py."""

from __future__ import annotations

import sys
from pathlib import Path

# For this package, as ``gpu``, and the modules of bench/ beside it.
sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":
    from gpu import command

    sys.exit(command.main())
