"""CUDA versions of the kernels: sources, their launches, and the driver they run through."""
