"""Which windows are computed, and in which order: all that show the patient, or only those around the organ."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import product

Index = tuple[int, int, int]


class WindowQueue:
    """Indices of windows on a lattice of `counts` per axis, each of `wanted` at most once.

    With `seeds_only` every second window along each axis comes up, and the neighbours of a window for which
    `grow` was called: so an organ is followed until no window shows more of it, and nothing of it is cut.

    >>> queue, seen = WindowQueue((1, 1, 5), [(0, 0, i) for i in range(5)], seeds_only=True), []
    >>> for index in queue:
    ...     seen.append(index[2])
    ...     if index[2] == 4: queue.grow(index)
    >>> seen
    [0, 2, 4, 3]
    """

    def __init__(self, counts: Sequence[int], wanted: Sequence[Index], seeds_only: bool):
        self.counts = tuple(counts)
        self.waiting = set(wanted)
        seeds = [set(range(0, count, 2)) for count in counts] if seeds_only else [set(range(count)) for count in counts]
        self.queue = deque(index for index in wanted if all(i in some for i, some in zip(index, seeds, strict=True)))
        self.waiting -= set(self.queue)
        self.done = 0

    def __iter__(self) -> Iterator[Index]:
        while self.queue:
            yield self.queue.popleft()
            self.done += 1

    def grow(self, index: Index) -> None:
        """All neighbours of this window are to be computed too."""
        around = product(*(range(i - 1, i + 2) for i in index))
        fresh = [neighbour for neighbour in around if neighbour in self.waiting]
        self.waiting -= set(fresh)
        self.queue.extend(fresh)

    @property
    def fraction(self) -> float:
        """Done of what is known to be done, the present one included."""
        return (self.done + 1) / (self.done + 1 + len(self.queue))
