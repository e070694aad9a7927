"""Which stream of random numbers is for what, so that no two uses ever draw the same ones.

A Philox counter is (block, stream, step); a stream is a purpose and a number within it.
"""

INITIAL_WEIGHTS = 1 << 24  # + position of the parameter in the network; step 0
DROPOUT = 2 << 24  # + position of the layer; step = the training step
SHUFFLE = 3 << 24  # step = the epoch
VALIDATION_SPLIT = 4 << 24  # step 0
GRADIENT_CHECK = 5 << 24
