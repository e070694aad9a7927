"""What the fusing passes share: joining neighbours, and who reads a buffer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gpubp.plan.ir import TRANSIENT, Buffer, Call

Has = Callable[[Call], bool]  # whether the backend has a kernel of its own for a call


def join_neighbours(
    calls: Sequence[Call], join: Callable[[Call, Call], Call | None], has: Has
) -> tuple[Call, ...]:
    """Return calls, each joined with the one before it where ``join`` and the backend can."""
    result: list[Call] = []
    for call in calls:
        joined = join(result[-1], call) if result else None
        if joined is not None and has(joined):
            result[-1] = joined
        else:
            result.append(call)
    return tuple(result)


def together(*calls: Call) -> str:
    """Return the formulas of calls as one, each once."""
    return "; ".join(dict.fromkeys(call.formula for call in calls))


class Readers:
    """How many calls read each buffer."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._count = Counter(buffer for call in calls for buffer in set(call.reads()))

    def are_only(self, buffer: Buffer | None, *calls: Call) -> bool:
        """Return whether nobody but these calls reads a buffer, so that it need not be written."""
        return (
            buffer is not None
            and buffer.region == TRANSIENT
            and self._count[buffer] == sum(buffer in set(call.reads()) for call in calls)
        )
