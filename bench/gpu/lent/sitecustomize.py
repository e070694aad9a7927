"""Python runs this at its start where this folder is on PYTHONPATH."""

import lend

lend.install()
