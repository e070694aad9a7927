"""Benchmarks: what training costs on the devices at hand, beside their limits and other libraries.

``gpubp bench`` runs them, and the suites in the repository's ``bench/`` use the same parts. Other
libraries are imported only in the processes that time them.
"""
