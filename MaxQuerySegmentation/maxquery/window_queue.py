"""Which windows are computed, and in which order."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from maxquery.lattice import Index


class WindowQueue:
    """Of the windows that are `wanted`, the `first`, and then what `grow` asks for; each at most once.

    >>> queue, seen = WindowQueue([(0, 0, i) for i in range(5)], first=[(0, 0, 1)]), []
    >>> for index in queue:
    ...     seen.append(index[2])
    ...     if index[2] < 3: queue.grow([(0, 0, index[2] - 1), (0, 0, index[2] + 1)])
    >>> seen
    [1, 0, 2, 3]
    """

    def __init__(self, wanted: Iterable[Index], first: Iterable[Index]):
        self.waiting = set(wanted)
        self.queue: deque[Index] = deque()
        self.grow(first)
        self.done = 0

    def __iter__(self) -> Iterator[Index]:
        while self.queue:
            yield self.queue.popleft()
            self.done += 1

    def grow(self, indices: Iterable[Index]) -> None:
        """These are to be computed too."""
        for index in indices:
            if index in self.waiting:
                self.waiting.remove(index)
                self.queue.append(index)

    @property
    def possible(self) -> Iterator[Index]:
        """Those that are still to come, or may be asked for."""
        return chain(self.queue, self.waiting)

    @property
    def fraction(self) -> float:
        """Done of what is known to be done, the present one included."""
        return (self.done + 1) / (self.done + 1 + len(self.queue))
