"""Strictness for every test: no surprises from array libraries, no random failures."""

import array_api_strict
import hypothesis

# What the arrays of a GPU can do without a look at their values.
array_api_strict.set_array_api_strict_flags(
    api_version="2024.12",
    boolean_indexing=False,
    data_dependent_shapes=False,
    enabled_extensions=(),
)

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")
