"""Runs one CUDA kernel on device arrays: the way of ``gpubp.ops``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpubp.errors import OperandError
from gpubp.kernels.cuda import launch
from gpubp.kernels.cuda.driver import Array, Driver
from gpubp.kernels.spec import kernel as contract


def run(
    driver: Driver,
    name: str,
    operands: Sequence[Array | None],
    scalars: Mapping[str, launch.Number] | None = None,
    *,
    tf32: bool = False,
) -> None:
    """Run a kernel on C-contiguous arrays of the driver's device, which is current.

    Args:
        driver: the device.
        name: the kernel.
        operands: the arrays, outputs last, as the contract lists them.
        scalars: by name.
        tf32: whether float32 products may round their operands to TF32.

    Raises:
        OperandError: shapes, dtypes or scalars break the contract, or an array's layout; or the
            library has no such product.
    """
    kernel = contract(name)
    scalars = scalars or {}
    places: list[launch.Place | None] = []
    for declared, array in zip(kernel.operands, operands, strict=True):
        if array is not None and not array.flags.c_contiguous:
            raise OperandError(
                f"{name}: operand {declared.name!r} is not C-contiguous, which a CUDA kernel "
                "needs; pass cupy.ascontiguousarray(...) of it"
            )
        bits = "bfloat16" if declared.dtype == "bfloat16" else ""
        places.append(None if array is None else launch.place_of(driver, array, bits))
    kernel.bind(places, scalars)
    if launch.is_product(name):
        _multiply(driver, name, places, scalars, tf32)
        return
    scratch = None
    partials, tickets = launch.scratch_of(kernel, places, scalars)
    if tickets:
        sums, counts = driver.zeros(partials, "float64"), driver.zeros(tickets, "uint32")
        scratch = launch.Scratch(driver.address(sums), driver.address(counts))
    made = launch.launch(kernel, places, scalars, scratch=scratch)
    driver.launch(driver.function(made.variant), made.grid, made.block, made.words)


def _multiply(
    driver: Driver,
    name: str,
    places: Sequence[launch.Place | None],
    scalars: Mapping[str, launch.Number],
    tf32: bool,
) -> None:
    kernel = contract(name)
    shapes = [None if place is None else (place.shape, place.dtype) for place in places]
    gemm = launch.gemm(kernel, shapes, scalars, tf32=tf32)
    product = driver.product(gemm)
    if product is None:
        raise OperandError(f"{name}: cuBLASLt has no algorithm for {gemm}; use the plain products")
    launch.multiply(driver, product, kernel, places)
