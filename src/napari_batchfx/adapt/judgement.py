"""The verdict on control samples, in words, from their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["FAR_REACH", "judgement"]

#: Standard deviations: set on phantoms, see docs/methods/controls.md.
FAR_REACH = 2.0


def judgement(
    numbers: Mapping[str, Any],
    batch: str,
    n_known: int,
    split_by: str,
    weak: Sequence[str] = (),
    after_low: float = float("nan"),
) -> tuple[str, list[str], list[str]]:
    """Verdict, its reasons and what else to mind.

    Parameters
    ----------
    numbers : mapping
        Attributes of :class:`~napari_batchfx.adapt.ControlDiagnostics` by name.
    batch : str
        What is corrected for, as it is called.
    n_known : int
        Other tiles whose class is known.
    split_by : str
        How the controls were split into halves.
    weak : sequence of str
        Reasons found before.
    after_low : float
        Lower end of the 95 % interval of ``probe_after``.

    Returns
    -------
    verdict : {"usable", "weak", "not usable"}
    reasons, notes : list of str
        Reasons end with the notes.

    Examples
    --------
    >>> names = ("probe_before", "probe_after", "chance", "retention_before", "retention_after", "direction",
    ...          "class_before", "class_after", "placebo", "variance_ratio", "leverage",
    ...          "largest_slide_share")
    >>> numbers = dict.fromkeys(names, float("nan")) | {"reach": 5.6, "effective_rank": 9.0}
    >>> numbers |= {"n": {"A": 70, "B": 70}, "n_slides": {"A": 4, "B": 4}, "probe_before": 0.99}
    >>> numbers |= {"probe_after": 0.55, "chance": 0.5}
    >>> verdict, reasons, _ = judgement(numbers, "scanner", 0, "slide")
    >>> verdict, reasons[0][:56]
    ('weak', 'The other tiles lie far outside of them, 5.6 of their st')
    """
    bad: list[str] = []
    weak = list(weak)
    good: list[str] = []
    unclear = _probe(numbers, batch, after_low, bad, weak, good)
    _biology(numbers, n_known, bad, weak, good)
    _difference(numbers, batch, weak, good)
    notes = unclear + _notes(numbers, batch, split_by)
    return "not usable" if bad else "weak" if weak else "usable", (bad + weak or good) + notes, notes


def _probe(
    n: Mapping[str, Any], batch: str, after_low: float, bad: list[str], weak: list[str], good: list[str]
) -> list[str]:
    """What else to mind; the findings go into the lists."""
    before, after, chance = n["probe_before"], n["probe_after"], n["chance"]
    if len(n["n"]) < 2:
        weak.append(f"There is only one {batch}: nothing to compare.")
    if not np.isfinite(before):
        weak.append("Too few control tiles to hold half of them out and check the correction on them.")
    elif before < chance + 0.1:
        good.append(
            f"The {batch} can hardly be recognised on them ({_of100(before)}; guessing {_of100(chance)})."
        )
    elif after > before - 0.02:
        bad.append(
            f"On held-out controls the {batch} is recognised as well after the correction as before "
            f"({_of100(before)} -> {_of100(after)})."
        )
    elif after > chance + 0.2 and after_low < chance + 0.1:
        # half of few controls give a correction that is itself uncertain, and few tiles to see it on
        return [
            f"On held-out controls the {batch} is still recognised after the correction ({_of100(before)} "
            f"-> {_of100(after)}; guessing {_of100(chance)}), but on so few that it may be chance: more "
            "controls tell."
        ]
    elif after > chance + 0.2:
        weak.append(
            f"On held-out controls the {batch} is still recognised after the correction ({_of100(before)} "
            f"-> {_of100(after)}; guessing {_of100(chance)})."
        )
    else:
        good.append(
            f"On held-out controls the {batch} is recognised in {_of100(before)} before and "
            f"{_of100(after)} after (guessing {_of100(chance)})."
        )
    return []


def _biology(n: Mapping[str, Any], n_known: int, bad: list[str], weak: list[str], good: list[str]) -> None:
    lost = n["retention_before"] - n["retention_after"]
    if lost > 0.05:
        bad.append(f"Correcting on them costs {100 * lost:.1f} points of tissue accuracy.")
    elif lost > max(0.01, _chance_of(n["retention_before"], n_known)):
        weak.append(f"Correcting on them costs {100 * lost:.1f} points of tissue accuracy.")
    elif np.isfinite(lost):
        beyond = " beyond chance" if lost > 0.005 else ""
        good.append(f"Correcting on them costs no tissue accuracy{beyond}.")
    fell = n["class_before"] - n["class_after"]
    if fell > max(0.01, _chance_of(n["class_before"], n_known)):
        (bad if fell > 0.05 else weak).append(
            f"A classifier recognises the classes of the other tiles less well after it "
            f"({_of100(n['class_before'])} -> {_of100(n['class_after'])})."
        )


def _difference(n: Mapping[str, Any], batch: str, weak: list[str], good: list[str]) -> None:
    if n["reach"] > FAR_REACH:
        weak.append(
            f"The other tiles lie far outside of them, {n['reach']:.1f} of their standard deviations (alike: "
            f"1): what the {batch} does to such tissue is guessed, not seen. Take controls of more kinds of "
            "tissue, or suggested ones."
        )
    if n["direction"] < 0.5:
        weak.append(
            f"They do not carry the difference that the other tiles show (direction {n['direction']:.2f})."
        )
    elif np.isfinite(n["direction"]):
        good.append(f"They carry the difference (direction {n['direction']:.2f}).")
    if n["placebo"] > 0.5:
        weak.append(f"Chance alone moves tiles {100 * n['placebo']:.0f} % as far as the correction does.")
    if n["variance_ratio"] < 0.5 or n["variance_ratio"] > 2.0:
        weak.append(f"The spread of the other tiles changes by a factor of {n['variance_ratio']:.2f}.")
    if n["effective_rank"] < 3:
        weak.append(
            f"They vary in {n['effective_rank']:.1f} directions only: too uniform to stand for tissue."
        )
    if n["largest_slide_share"] > 0.5 and min(n["n_slides"].values()) > 1:
        weak.append(f"{100 * n['largest_slide_share']:.0f} % of a {batch}'s controls come from one slide.")
    if n["leverage"] > 0.5:
        weak.append(
            f"One slide decides: without it the difference between {batch}s would be taken for another by "
            f"{100 * n['leverage']:.0f} %."
        )


def _notes(n: Mapping[str, Any], batch: str, split_by: str) -> list[str]:
    notes = []
    if 0.5 <= n["variance_ratio"] < 0.9 or 1.1 < n["variance_ratio"] <= 2.0:
        notes.append(
            f"The spread of the other tiles, counted in that of the controls, is {n['variance_ratio']:.2f} "
            "of what it was."
        )
    if batch != "slide" and min(n["n_slides"].values()) == 1:
        notes.append(
            f"One slide of a {batch} holds all its controls: they correct that slide, not the {batch} as "
            "such."
        )
    if split_by == "tile":
        notes.append(
            "The halves to fit and to judge are split tile by tile: the judgement is on the kind side."
        )
    return notes


def _of100(value: float) -> str:
    return f"{100 * value:.0f} of 100"


def _chance_of(share: float, n: int) -> float:
    """Standard error of a share of n tiles: a smaller fall is no finding."""
    return float(np.sqrt(max(share * (1.0 - share), 0.0) / n)) if n and np.isfinite(share) else 0.0
