"""The array namespace of a stand-in device: NumPy, but that new arrays are made on the device."""

import numpy as np
from array_api_compat import numpy as xp


class Namespace:
    """What CuPy is to a real device, as far as code above the drivers uses it."""

    def __init__(self, driver):
        self._driver = driver

    def __getattr__(self, name):
        return getattr(xp, name)

    def empty(self, shape, dtype):
        """Return a new array of garbage: NaN or large numbers."""
        made = self.zeros(shape, dtype)
        made.view(np.uint8)[...] = 0xFF
        return made

    def zeros(self, shape, dtype):
        """Return a new array of zeros."""
        shape = (shape,) if isinstance(shape, int) else shape
        return self._driver.zeros(int(np.prod(shape)), np.dtype(dtype).name).reshape(shape)

    def arange(self, *bounds, dtype):
        """Return the numbers between bounds as a device array."""
        return self._driver.upload(np.arange(*bounds, dtype=dtype))

    def asarray(self, values, dtype=None, copy=None):
        """Return numbers as a device array, or a copy of a device array."""
        return self._driver.upload(np.array(values, dtype=dtype))
