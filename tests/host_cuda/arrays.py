"""Arrays of a stand-in device, and the namespace of functions on them: CuPy's part.

NumPy computes, and as with CuPy nothing mixes with arrays in host memory, nothing is converted to
one unasked, and what NumPy returns as a scalar is an array.
"""

import operator

import numpy as np

from host_cuda.memory import Misuse

# What gives another view of the same values, and so need not wait for them.
VIEWS = ("reshape", "view", "ravel", "transpose")


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in the memory of a device.

    Args:
        driver: the device.
        values: the NumPy array behind it.
    """

    def __init__(self, driver, values):
        self.driver, self.unready = driver, values

    @property
    def values(self):
        """The NumPy array behind it, when all work of the device so far is done."""
        self.driver.finish()
        return self.unready

    @property
    def device(self):
        return f"cuda:{self.driver.index}"

    @property
    def __cuda_array_interface__(self):
        array = self.unready
        return {
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "version": 3,
        }

    def __array_namespace__(self, **_):
        return self.driver.xp

    def __array__(self, *_, **__):
        raise TypeError("a device array is not converted to a NumPy array unasked")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return self.driver.xp.call(getattr(ufunc, method), inputs, options)

    def __array_function__(self, function, types, arguments, options):
        return self.driver.xp.call(function, arguments, options)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.unready, name)
        if isinstance(found, np.ndarray):
            return self.driver.wrap(found)
        if not callable(found):
            return found
        if name in VIEWS:
            return lambda *arguments, **options: self.driver.wrap(found(*arguments, **options))
        return lambda *arguments, **options: self.driver.xp.call(
            getattr(self.values, name), arguments, options
        )

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, DeviceArray) for part in index):
            return self.driver.xp.call(operator.getitem, (self, index), {})
        # With the ellipsis an element is a view, too.
        return self.driver.wrap(self.unready[index if ... in index else (*index, ...)])

    def __setitem__(self, index, value):
        self.driver.xp.call(operator.setitem, (self, index, value), {})

    def __len__(self):
        return len(self.unready)

    def __bool__(self):
        return bool(self.values)

    def __int__(self):
        return int(self.values)

    def __float__(self):
        return float(self.values)

    def __index__(self):
        return operator.index(self.values)

    def __repr__(self):
        return f"DeviceArray({self.values!r}, device={self.device!r})"


class Namespace:
    """NumPy's functions for the arrays of one device."""

    def __init__(self, driver):
        self._driver = driver

    def __getattr__(self, name):
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found
        return lambda *arguments, **options: self.call(found, arguments, options)

    def call(self, function, arguments, options):
        """Return function(*arguments, **options), arrays of the device in and out."""
        options = {name: value for name, value in options.items() if name != "device"}
        uploads = function in (np.asarray, np.array)
        arguments = [self._unwrapped(value, uploads) for value in arguments]
        options = {name: self._unwrapped(value, uploads) for name, value in options.items()}
        return self._driver.wrap(function(*arguments, **options))

    def _unwrapped(self, value, uploads):
        if isinstance(value, DeviceArray):
            if value.driver is not self._driver:
                raise Misuse(f"an array of {value.device} is used on cuda:{self._driver.index}")
            return value.values
        if isinstance(value, np.ndarray) and not uploads:
            raise Misuse("an array in host memory is used with those of a device")
        if isinstance(value, (tuple, list)):
            return type(value)(self._unwrapped(part, uploads) for part in value)
        return value
