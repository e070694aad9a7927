"""A stand-in for the CUDA device: the kernels' own sources, compiled for and run on the host."""
