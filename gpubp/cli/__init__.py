"""The command ``gpubp``; main.py is its entry, and each command has a module of its own."""
