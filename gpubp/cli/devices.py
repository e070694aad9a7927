"""``gpubp devices``: what is here, what is used, what is missing and what installs it."""

from __future__ import annotations

import click

from gpubp import devices
from gpubp.errors import GpubpError


@click.command()
@click.option("--kernels", is_flag=True, help="List who implements which kernel.")
def command(kernels: bool) -> None:
    """Show what hardware and libraries are here, and what is used.

    \b
    Examples:
      gpubp devices
      gpubp devices --kernels
    """
    if kernels:
        _kernels()
    else:
        _devices()


def _devices() -> None:
    found = devices.inventory()
    cores = f"{found.cores} core{'s' * (found.cores != 1)}"
    lines = [
        ("CPU", f"{found.processor}, {cores} usable"),
        ("BLAS", ", ".join(found.blas)),
        ("Numba", found.numba or "missing: pip install numba"),
        ("GPU", str(found.driver)),
        *((f"  {i}", _gpu(gpu)) for i, gpu in enumerate(found.driver.gpus)),
        ("CuPy", found.cupy or "not installed"),
        ("CUDA backend", devices.missing_cuda(found.driver)),
        ("used", _used()),
    ]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:<{width}}  {text}")


def _gpu(gpu: devices.Gpu) -> str:
    major, minor = gpu.capability
    return f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, compute capability {major}.{minor}"


def _used() -> str:
    try:
        return devices.resolve().reason
    except GpubpError as error:  # GPUBP_DEVICE names what is not here
        return f"nothing: {error}"


def _kernels() -> None:
    from gpubp.kernels.spec import KERNELS  # noqa: PLC0415 (devices alone is quick)

    names = ("reference", "numba")
    width = max(map(len, KERNELS))
    click.echo(f"{'kernel':<{width}}  {'  '.join(names)}")
    for kernel in KERNELS:
        there = devices.implementers(kernel)
        marks = "  ".join(f"{'yes' if name in there else '-':<{len(name)}}" for name in names)
        click.echo(f"{kernel:<{width}}  {marks}".rstrip())
