"""What an open slide shows at one moment: its colours and pixel size can be changed while it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_batchfx.slides import Slide

__all__ = ["Moment"]


@dataclass(frozen=True, eq=False)
class Moment:
    """Marks a slide's pixels and pixel size, to see after a read that neither was changed during it.

    Parameters
    ----------
    token : object
        Names the pixels; never used again, so colours changed and changed back are seen, too.
    mpp : (float, float) or None
        The slide's own tuple: another one, even of the same numbers, means it was set meanwhile.
    """

    token: object
    mpp: Any

    @classmethod
    def of(cls, slide: Slide) -> Moment:
        """Mark what the slide shows now."""
        return cls(getattr(slide, "_token", None), slide.mpp)

    def holds(self, slide: Slide) -> bool:
        """Whether nothing was changed since."""
        now = Moment.of(slide)
        return now.token == self.token and now.mpp is self.mpp
