"""Numba kernels: readable functions on arrays, compiled one by one, at first use, and kept on disk.

A body here is plain Python on typed arrays; entry.py gives it a C entry point that a compiled
runner calls by address, and compiled.py builds and keeps that entry point.
"""
