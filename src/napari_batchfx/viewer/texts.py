"""Results as the short tables that docks show."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_batchfx.adapt.heads.offered import OFFERED_HEADS
from napari_batchfx.adapt.methods import REGISTRY

__all__ = [
    "METHODS",
    "accuracy",
    "adapt_table",
    "adaptations_table",
    "method_name",
    "number",
    "stain_numbers",
]

METHODS = {key: method.label for key, method in REGISTRY.items()}
"""What the corrections are called on the screen."""


def method_name(settings: dict[str, Any]) -> str:
    """What a result's correction, or its classifier that adapts by itself, is called on the screen."""
    head = settings.get("head", "linear")
    if head != "linear":
        return OFFERED_HEADS[head].label if head in OFFERED_HEADS else str(head)
    return METHODS.get(settings["method"], settings["method"])


def number(value: Any) -> str:
    """Three significant digits; a dash where there is no number."""
    return f"{value:.3g}" if isinstance(value, (int, float)) and np.isfinite(value) else "-"


def accuracy(value: Any, interval: Any = None) -> str:
    """A share between 0 and 1 with its interval: ``0.971 (0.94-0.99)``."""

    def known(one: Any) -> bool:
        return isinstance(one, (int, float, np.floating)) and bool(np.isfinite(one))

    text = f"{value:.3f}" if known(value) else "-"
    if interval is not None and len(interval) == 2 and all(known(one) for one in interval):
        text += f" ({interval[0]:.2f}-{interval[1]:.2f})"
    return text


def stain_numbers(transform: Any) -> tuple[str, tuple[str, ...]]:
    """A slide's stain estimate in one line, and its warnings."""
    source = transform.source
    if hasattr(source, "matrix"):
        h, e = source.max_concentration
        text = f"haematoxylin {number(float(h))}, eosin {number(float(e))} (strength on {source.n_pixels:,} tissue pixels)"
    else:
        mean = ", ".join(f"{value:.0f}" for value in source.mean)
        text = f"mean colour L, a, b: {mean}; {source.n_pixels:,} tissue pixels"
    return text, tuple(transform.warnings)


def html_table(header: list[str], rows: list[list[str]]) -> str:
    """A small table for a label."""
    head = "".join(f"<th align='left'>{html.escape(cell)}&nbsp;&nbsp;</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}&nbsp;&nbsp;</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table cellspacing='0' cellpadding='2'><tr>{head}</tr>{body}</table>"


def adapt_table(outcome: Any) -> str:
    """Numbers before and after an adaptation: accuracy where labels exist, tissue classes, and the controls behind it."""
    numbers = outcome.numbers
    comparison, diagnostics = numbers["comparison"], numbers["diagnostics"] or {}
    rows = []
    for key, text in (("balanced_accuracy", "accuracy (balanced)"), ("macro_f1", "macro F1")):
        before, after = comparison.get(f"{key}_before"), comparison.get(f"{key}_after")
        if before and after:
            rows.append(
                [
                    text,
                    accuracy(before["value"], before["ci"]),
                    accuracy(after["value"], after["ci"]),
                ]
            )
    for key, text in (("auc", "AUC"), ("ece", "calibration error (ECE)")):
        before, after = comparison.get(f"{key}_before"), comparison.get(f"{key}_after")
        if before is not None and after is not None:
            rows.append([text, accuracy(before), accuracy(after)])
    inside_before, inside_after = comparison.get("inside_before"), comparison.get("inside_after")
    if inside_before and inside_after:
        rows.append(
            [
                "accuracy where it learned, held out",
                accuracy(inside_before["value"], inside_before["ci"]),
                accuracy(inside_after["value"], inside_after["ci"]),
            ]
        )
    kept_before, kept_after = numbers.get("retention_before"), numbers.get("retention_after")
    if kept_before and kept_after and kept_before["value"] is not None:
        before = accuracy(kept_before["value"])
        after = before if kept_after["value"] is None else accuracy(kept_after["value"])
        rows.append(["tissue classes kept", before, after])
    text = html_table(["", "before", "after"], rows) if rows else ""
    if comparison.get("n_truth"):
        text += (
            f"<br>Accuracy on {comparison['n_truth']:,} tiles with a known class; every class counts the same, so a "
            "mixture that differs between slides doesn't move it."
        )
    else:
        text += "<br>No labels on the slides the prediction is for: accuracy is not known."
    for name, one in (numbers.get("judgements") or {}).items():
        text += f"<br>{html.escape(name)}: {html.escape(one['sentence'])}"
    if diagnostics:
        counts = ", ".join(f"{n:,} on {html.escape(str(batch))}" for batch, n in diagnostics["n"].items())
        text += f"<br>Controls: {counts}; <b>{html.escape(str(diagnostics['verdict']))}</b>"
        text += "".join(f"<br>- {html.escape(str(reason))}" for reason in diagnostics.get("reasons") or [])
    return text


def adaptations_table(outcomes: Sequence[Any]) -> str:
    """All adaptations run so far, one row each: a method that helps here may hurt there."""
    rows = []
    for outcome in outcomes:
        settings, comparison = outcome.computed_from["settings"], outcome.numbers["comparison"]
        before, after = comparison.get("balanced_accuracy_before"), comparison.get("balanced_accuracy_after")
        learned = ", ".join(settings["train_on"]) or "first with labels"
        if outcome.computed_from["encode"].get("normalizer"):
            learned += f" ({outcome.computed_from['encode']['normalizer'].capitalize()})"
        rows.append(
            [
                method_name(settings),
                learned,
                accuracy(before["value"]) if before else f"{comparison['n_changed']:,} changed",
                accuracy(after["value"]) if after else "",
            ]
        )
    return html_table(["method", "learned from", "before", "after"], rows)
