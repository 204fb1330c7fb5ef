"""How many tiles the model gets at once: found by trying, halved where memory runs out, grown again later."""

from __future__ import annotations

import math

__all__ = ["BatchSize"]

TARGET_SECONDS = 0.1
#: Batches without a full memory before a size that failed is tried again; doubled after each failure.
PATIENCE = 16
LONGEST_PATIENCE = 1024


class BatchSize:
    """How many tiles at once.

    Adaptive: starts at ``start`` and doubles while a batch takes less than about a tenth of a second and a
    tile gets cheaper by it; shrinks where a batch takes much longer, so that a job stops quickly. Fixed:
    ``limit`` tiles. Either way, where memory runs out at n tiles the size becomes n // 2 and the tiles are
    tried again; after 16 batches that fit the double is tried once more, up to the first limit, and after
    every further failure twice as many batches pass before the next try: a memory that was full for a moment
    costs little, one that stays full costs a failed batch now and then.

    Parameters
    ----------
    start, limit : int
        Tiles of the first batch, and most tiles.
    least : int
        Fewest tiles of a batch that time decides about; where memory runs out one tile is the least.
    adaptive : bool
        Whether the time that batches take counts.
    target : float
        Seconds that a batch should take.

    Attributes
    ----------
    size : int
        Tiles of the next batch.
    proven : int
        Most tiles that fitted so far.

    Examples
    --------
    >>> batch = BatchSize(start=32, limit=32)
    >>> batch.failed(32)
    >>> batch.size
    16
    >>> for _ in range(16):
    ...     batch.fitted(16, seconds=0.1)
    >>> batch.size
    32
    """

    def __init__(
        self,
        start: int,
        limit: int,
        *,
        least: int = 1,
        adaptive: bool = False,
        target: float = TARGET_SECONDS,
    ) -> None:
        self._least = min(least, max(1, limit))
        self.size = max(1, min(start, limit))
        self.limit, self.adaptive, self.target = max(1, limit), adaptive, target
        self.proven = 0
        self._cap = self.limit
        self._patience, self._fits_since, self._is_retry = PATIENCE, 0, False
        self._warm: set[int] = set()
        self._seconds_a_tile: dict[int, float] = {}
        self._last = (0, 0.0)

    def fitted(self, n: int, seconds: float) -> None:
        """Note a batch that went through."""
        self.proven = max(self.proven, n)
        if self._cap < self.limit and n >= min(self.size, self._cap):
            self._fits_since += 1
            if self._fits_since >= self._patience:
                self._fits_since, self._is_retry = 0, True
                self._cap = min(self.limit, self._cap * 2)
                if not self.adaptive:
                    self.size = self._cap
        if not self.adaptive or n < self.size:
            return
        if n not in self._warm:
            # the first batch of a size also pays for compiling and for buffers
            self._warm.add(n)
            self._seconds_a_tile[n] = seconds / n
            if seconds < self.target / 2:
                self._resize(n * 2)
            elif seconds > 2 * self.target and len(self._warm) > 1:
                self._resize(n // 2)
            return
        # the quicker of the last two: a neighbour's moment on the same cores isn't this model's speed
        last, self._last = self._last, (n, seconds / n)
        each = self._seconds_a_tile[n] = min(seconds / n, last[1] if last[0] == n else self._known(n))
        if n * each > 1.5 * self.target:
            # what was measured before the machine got slower says nothing now
            self._seconds_a_tile.clear()
            self._resize(max(n // 4, int(self.target / each)))
        elif self._known(n // 2) < 0.9 * each:
            self._resize(n // 2)
        elif n * each < 0.6 * self.target and not 0.97 * each <= self._known(2 * n) < math.inf:
            self._resize(2 * n)

    def _known(self, n: int) -> float:
        return self._seconds_a_tile.get(n, math.inf)

    def _resize(self, n: int) -> None:
        self.size = max(1, min(max(n, self._least), self._cap))

    def failed(self, n: int) -> None:
        """Note that memory ran out at ``n`` tiles."""
        if n <= self.proven:
            # it fitted before: something else takes the memory now
            self.proven = max(1, n // 2)
        if n <= self._cap:
            if self._is_retry:
                self._patience = min(LONGEST_PATIENCE, self._patience * 2)
            self._is_retry = False
            self._cap = max(1, n // 2)
        self.size = min(self.size, self._cap)
        self._fits_since = 0
