"""The bundled data sets, by name. They are scikit-learn's, which is imported only on use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOADERS = {
    "digits": "load_digits",
    "iris": "load_iris",
    "wine": "load_wine",
    "breast-cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
}

NAMES = tuple(_LOADERS)


def load(name: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a bundled set, the last of them called ``target``.

    Class ids are replaced by the names of the classes where the set has names.
    """
    from sklearn import datasets  # type: ignore[import-untyped]  # noqa: PLC0415 (1 s)

    bunch = getattr(datasets, _LOADERS[name])()
    X = np.ascontiguousarray(bunch.data.T)
    target = bunch.target
    classes = bunch.get("target_names")
    if classes is not None and classes.dtype.kind == "U":
        target = classes[target].astype(np.dtypes.StringDType())
    names = map(str, bunch.feature_names)
    return {**dict(zip(names, X, strict=True)), "target": target}
