"""Plans: a network lowered, once a batch shape, to a straight list of kernel calls over buffers.

Nothing here computes: a plan is data that can be printed, checked and placed in memory before any
backend runs it.
"""
