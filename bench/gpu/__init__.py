"""What the CUDA path does on a GPU: tests, sanitizer, graphs, and figures beside its peers'."""
