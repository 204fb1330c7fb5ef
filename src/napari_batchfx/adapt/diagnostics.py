"""What control samples can and can't do, as numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["ControlDiagnostics"]


@dataclass(frozen=True)
class ControlDiagnostics:
    """What control samples can and can't do.

    Attributes
    ----------
    verdict : {"usable", "weak", "not usable"}
    reasons : list of str
        Why, in words; for "usable" what they were found to do.
    n, n_slides : dict of str to int
        Controls and their slides, for each batch.
    largest_slide_share : float
        Largest share of a batch's controls that comes from one slide (batches with several slides), 1 where
        each has one slide.
    leverage : float
        How far the shift between batches, as seen on the controls, moves if the slide that matters most is
        left out, as a share of it; NaN where each batch has one slide.
    effective_rank : float
        Number of directions in which the controls really vary: (sum l)^2 / sum l^2 over the eigenvalues of
        their covariance.
    split_by : str
        How the controls were split into a half to fit on and a half to judge on: "slide", "spatial block" or
        "tile".
    probe_before, probe_after : float
        Balanced accuracy with which the batch is recognised on held-out controls; NaN where it could not be
        judged. ``chance`` goes with it.
    retention_before, retention_after : float
        Class retention on tiles that are no controls; NaN without labels.
    class_before, class_after : float
        Balanced accuracy with which a linear classifier recognises the class of tiles that are no controls,
        held out by slide or block; NaN without labels.
    direction : float
        Cosine between the batch shift of the controls and that of the other tiles (of the same class, where
        labelled).
    angles : tuple of float
        Principal angles, degrees, between the two spaces that these shifts span (one fewer than batches).
    placebo : float
        How far apart corrections for batches that don't exist (halves of one batch's controls) put a tile, as
        a share of what those for the real batches do.
    variance_ratio : float
        Variance within batches after / before, on tiles that are no controls.
    reach : float
        How far the other tiles lie from the controls, in the controls' standard deviations: about 1 where
        they are alike, more where the correction is carried to tissue that the controls don't show.
    """

    verdict: str
    reasons: list[str]
    n: dict[str, int]
    n_slides: dict[str, int]
    largest_slide_share: float
    effective_rank: float
    split_by: str
    leverage: float = float("nan")
    probe_before: float = float("nan")
    probe_after: float = float("nan")
    chance: float = float("nan")
    retention_before: float = float("nan")
    retention_after: float = float("nan")
    class_before: float = float("nan")
    class_after: float = float("nan")
    direction: float = float("nan")
    angles: tuple[float, ...] = ()
    placebo: float = float("nan")
    variance_ratio: float = float("nan")
    reach: float = float("nan")
    notes: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The verdict and its reasons as text."""
        total = sum(self.n.values())
        return f"{self.verdict.capitalize()}: {total:,} control tiles. " + " ".join(self.reasons)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes ``None``."""
        out = dict(self.__dict__)
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in out.items()}

    def rows(self) -> list[tuple[str, str]]:
        """Every number with its name, as texts for a table; what could not be judged is a dash."""

        def pair(before: float, after: float) -> str:
            return f"{_number(before)} to {_number(after)}"

        counts = [f"{n:,} on {name} ({self.n_slides[name]:,} slides)" for name, n in self.n.items()]
        return [
            ("control tiles", ", ".join(counts)),
            ("largest share of one slide", _number(self.largest_slide_share)),
            ("leverage of the slide that matters most", _number(self.leverage)),
            ("effective rank", _number(self.effective_rank)),
            ("halves to fit and to judge are split by", self.split_by),
            (
                f"batch recognised on held-out controls (guessing {_number(self.chance)})",
                pair(self.probe_before, self.probe_after),
            ),
            ("class recognised on other tiles", pair(self.class_before, self.class_after)),
            ("class structure of other tiles", pair(self.retention_before, self.retention_after)),
            ("direction: controls against other tiles", _number(self.direction)),
            ("how far other tiles lie from them (1: alike)", _number(self.reach)),
            ("principal angles", ", ".join(f"{one:.0f}°" for one in self.angles) or "-"),
            ("placebo: moved by chance alone", _number(self.placebo)),
            ("spread of other tiles, after over before", _number(self.variance_ratio)),
        ]


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"
