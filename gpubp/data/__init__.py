"""Data at the door: checks of arrays, and the tables, splits and preprocessing of the command."""
