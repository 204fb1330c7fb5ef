"""Which question a result answers: results of different questions are kept side by side."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["question", "question_key"]

# How fast it is computed, and how finely its chance is judged, is not what is asked.
_ENCODE = ("encoder", "precision", "size_px", "mpp", "stride_px", "min_tissue", "normalizer", "target")
_PROBE = ("batch", "probe")
_ADAPT = ("batch", "method", "label")


def question(computed_from: dict[str, Any]) -> tuple[str, ...]:
    """What a result answers, as texts in the order that results are listed in.

    Parameters
    ----------
    computed_from : dict
        Of a :class:`ProbeOutcome`, of what was found about one, or of an :class:`AdaptOutcome`.

    Returns
    -------
    tuple of str
        Encode settings, what is recognised (and by which classifier, where it isn't the usual one) or
        corrected for, what was learned from, and last the method or the head that adapts by itself.

    Examples
    --------
    >>> settings = {"method": "tvn", "batch": "site", "label": "label", "train_on": ["A"]}
    >>> question({"encode": {"encoder": "colour-statistics"}, "settings": settings})[-1]
    'tvn'
    """
    encode, settings = computed_from["encode"], computed_from["settings"]
    texts = [_text(encode.get(name)) for name in _ENCODE]
    if encode.get("cohort") and encode.get("normalizer"):
        texts[-1] = "all slides (average)"
    if "method" not in settings:
        more = computed_from.get("asked") or {}
        probe = (*texts, *(_text(settings.get(name)) for name in _PROBE))
        return (*probe, *(f"{name}: {_text(value)}" for name, value in sorted(more.items())))
    # Slides by their content where it is known: a slide that is named anew is the same slide.
    learned = computed_from.get("learned_from") or settings.get("train_on") or []
    batch, method, label = (_text(settings.get(name)) for name in _ADAPT)
    method = _text(settings.get("head")) or method
    return (*texts, batch, label, ", ".join(sorted(map(str, learned))), method)


def question_key(computed_from: dict[str, Any]) -> str:
    """Digest of :func:`question`, 12 hexadecimal digits: part of a file's name."""
    return hashlib.sha256(json.dumps(question(computed_from)).encode()).hexdigest()[:12]


def _text(value: Any) -> str:
    return "" if value is None else str(value)
