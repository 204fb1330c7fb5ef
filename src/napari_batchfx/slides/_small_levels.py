"""Which stored levels are worth keeping: pyramids that go on to one pixel serve nobody."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["worth_keeping"]

SMALLEST = 256


def worth_keeping(shapes: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the indices of the levels to keep, largest first: each a smaller copy of the first.

    Levels after the first one whose longer side is at most 256 px are left out: some converters go on to a
    single pixel, and neither a view nor a thumbnail can use that. A level whose sides are not the first's
    made smaller by the same factor, within a pixel or 1 %, is another image and is left out as well.

    Examples
    --------
    >>> worth_keeping([(2967, 2220), (1483, 1110), (370, 277), (185, 138), (92, 69), (1, 1)])
    (0, 1, 2, 3)
    """
    order = sorted(range(len(shapes)), key=lambda i: -shapes[i][0] * shapes[i][1])
    height, width = shapes[order[0]]
    kept: list[int] = []
    for i in order:
        h, w = shapes[i]
        if kept and (
            h >= shapes[kept[-1]][0] or w >= shapes[kept[-1]][1] or max(shapes[kept[-1]]) <= SMALLEST
        ):
            continue
        step = max(height / h, width / w)
        near = [
            abs(full / step - small) <= max(1.5, 0.01 * small) for full, small in ((height, h), (width, w))
        ]
        if all(near):
            kept.append(i)
    return tuple(kept)
