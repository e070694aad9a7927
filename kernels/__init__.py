"""Array kernels with one contract each (spec.py) and one implementation a backend.

The folder lies at the top of the repository and is imported as ``gpubp.kernels``.
"""

if not __name__.startswith("gpubp.kernels"):
    raise ImportError(
        f"this package is gpubp.kernels, not {__name__}: importing it under a second name would "
        "create every module twice; write 'from gpubp import kernels'"
    )
