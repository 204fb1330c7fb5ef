"""What is on the canvas, as the window tells it and a live job reads it: a mailbox between two threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from napari_batchfx.study.entries import SlideEntry

__all__ = ["Aim", "LiveView", "Look"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Look:
    """What is seen of one slide.

    Parameters
    ----------
    entry : SlideEntry
    box_um : (y0, x0, y1, x1)
        In the slide's micrometres.
    centre_um : (y, x)
        Where to begin.
    """

    entry: SlideEntry
    box_um: Box
    centre_um: tuple[float, float]


@dataclass(frozen=True)
class Aim:
    """One state of a :class:`LiveView`.

    Parameters
    ----------
    turn : int
        Counts the views.
    looks : tuple of Look
    held : bool
        Whether nothing may be begun now.
    """

    turn: int = 0
    looks: tuple[Look, ...] = ()
    held: bool = False


class LiveView:
    """The view that a :func:`~napari_batchfx.study.live.live_job` works for; it may change meanwhile.

    Every method may be called from any thread and returns at once, but for the two that wait.

    Examples
    --------
    >>> view = LiveView()
    >>> view.aim([])
    True
    >>> view.finish(view.current), view.aim([])
    (True, False)
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._aim = Aim()
        self._is_closed = False
        self._shown = 0

    @property
    def current(self) -> Aim:
        """What is wanted now."""
        return self._aim

    @property
    def is_closed(self) -> bool:
        """Whether the job has ended, or was told to."""
        return self._is_closed

    def aim(self, looks: Iterable[Look], *, held: bool = False) -> bool:
        """Look at something else; ``False`` where the job has ended and another one has to be started.

        While ``held``, only what the store has is shown and nothing is computed.
        """
        with self._changed:
            if self._is_closed:
                return False
            self._aim = Aim(self._aim.turn + 1, tuple(looks), held)
            self._changed.notify_all()
            return True

    def hold(self, held: bool = True) -> None:
        """From now on begin no batch (the view moves, a button is down); ``False`` goes on."""
        with self._changed:
            if self._aim.held != held:
                self._aim = Aim(self._aim.turn, self._aim.looks, held)
                self._changed.notify_all()

    def close(self) -> None:
        """Tell the job to end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def shown(self, aim: Aim) -> None:
        """Said by the job: what the store has of this view is on the picture."""
        with self._changed:
            self._shown = max(self._shown, aim.turn)
            self._changed.notify_all()

    def wait_shown(self, seconds: float) -> bool:
        """Wait, not longer than that, until what is stored of the view is on the picture; whether it is."""
        with self._changed:
            turn = self._aim.turn
            return self._changed.wait_for(lambda: self._shown >= turn or self._is_closed, seconds)

    def finish(self, aim: Aim) -> bool:
        """Said by the job: what this state wanted is done. ``False`` where it is another one by now."""
        with self._changed:
            if aim is not self._aim:
                return False
            self._is_closed = True
            return True

    def wait(self, aim: Aim, seconds: float) -> None:
        """Wait until something changed after ``aim``, but not longer than that."""
        with self._changed:
            if aim is self._aim and not self._is_closed:
                self._changed.wait(seconds)
