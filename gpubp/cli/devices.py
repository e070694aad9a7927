"""``gpubp devices``: what is here, what is used, what is missing and what installs it."""

from __future__ import annotations

from collections.abc import Sequence

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
        ("MKL", found.mkl or "not installed"),
        ("Numba", found.numba or "missing: pip install numba"),
        ("GPU", str(found.driver) if found.driver.gpus else "none"),
        *((f"  {i}", _gpu(gpu)) for i, gpu in enumerate(found.driver.gpus)),
        ("CuPy", found.cupy or "not installed"),
        *_cuda(found.driver.gpus),
        ("used", _used()),
    ]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:<{width}}  {text}")


def _gpu(gpu: devices.Gpu) -> str:
    major, minor = gpu.capability
    return f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, compute capability {major}.{minor}"


def _cuda(gpus: Sequence[devices.Gpu]) -> list[tuple[str, str]]:
    """Return whether each GPU can be used, and if not why, as lines; one where there is none."""
    problems = [devices.cuda_problem(index) for index in range(max(1, len(gpus)))]
    if len(problems) == 1:
        return [("CUDA backend", problems[0] or "can be used")]
    return [
        ("CUDA backend", f"cuda:{index}: {problem}" if problem else f"cuda:{index} can be used")
        for index, problem in enumerate(problems)
    ]


def _used() -> str:
    try:
        return devices.resolve().reason
    except GpubpError as error:  # GPUBP_DEVICE names what is not here
        return f"nothing: {error}"


def _kernels() -> None:
    from gpubp.kernels.cuda import launch  # noqa: PLC0415 (devices alone is quick)
    from gpubp.kernels.spec import KERNELS  # noqa: PLC0415

    names = ("reference", "numba", "cuda")
    width = max(map(len, KERNELS))
    click.echo(f"{'kernel':<{width}}  {'  '.join(names)}")
    for kernel in KERNELS:
        there = dict.fromkeys(devices.implementers(kernel), "yes")
        if "cuda" in there and launch.is_product(kernel):
            there["cuda"] = "cuBLASLt"
        marks = "  ".join(f"{there.get(name, '-'):<{len(name)}}" for name in names)
        click.echo(f"{kernel:<{width}}  {marks}".rstrip())
