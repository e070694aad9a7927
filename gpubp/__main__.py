"""``python -m gpubp`` is the command ``gpubp``."""

from gpubp.cli.main import main

main()
