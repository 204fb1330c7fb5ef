"""What could mislead a reader of a site probe, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.probe.columns import category_codes
from napari_batchfx.probe.design import Design
from napari_batchfx.probe.statistics import recalls

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["build_warnings", "inside_classes"]

FEW_GROUPS = 5
NOTABLE_ASSOCIATION = 0.3
_MIN_CELL = 5
TIED = 0.99
UNEVEN = 0.05
OVERSURE = 0.1


def inside_classes(
    table: AnnData, design: Design, predicted: NDArray[np.intp]
) -> tuple[dict[str, dict[str, float]], float | None]:
    """Balanced accuracy inside each class of two batches or more, and Cramér's V of class and batch."""
    from napari_batchfx.probe.metrics.cramers_v import association

    codes, names = category_codes(table, "label")
    codes = codes[design.rows]
    labelled = codes >= 0
    if not labelled.any():
        return {}, None
    out: dict[str, dict[str, float]] = {}
    for c, name in enumerate(names):
        mine = codes == c
        counts = np.bincount(design.y[mine], minlength=len(design.batches))
        if (counts >= _MIN_CELL).sum() < 2:
            continue
        keep = counts[design.y] >= _MIN_CELL
        r = recalls(design.y[mine & keep], predicted[mine & keep], len(design.batches))
        out[name] = {
            "value": float(np.nanmean(r)),
            "chance": 1.0 / int((counts >= _MIN_CELL).sum()),
            "n": int((mine & keep).sum()),
        }
    return out, association(codes[labelled], design.y[labelled])


def build_warnings(
    design: Design,
    by_class: dict[str, dict[str, float]],
    association: float | None,
    value: float,
    notes: list[str],
    permutations: int,
    relabellings: int | None,
    slide_even: float = float("nan"),
    ece: float = float("nan"),
) -> list[str]:
    """The traps of this design, the gravest first; ``relabellings`` is how many others exist."""
    batch, grouping = design.batch, design.grouping
    constant = int((design.x == design.x[0]).all(axis=0).sum())
    blind = constant == design.x.shape[1]
    out = ["Every tile has the same features: the encoder sees nothing here."] if blind else []
    out += grouping.warnings
    if association is not None and association >= NOTABLE_ASSOCIATION:
        text = (
            f"Class and {batch} go together in this table (Cramér's V {association:.2f}): the classifier "
            "may recognise the tissue "
            f"instead of the {batch}."
        )
        if by_class:
            worst = min(by_class, key=lambda name: by_class[name]["value"])
            v = by_class[worst]
            text += (
                f" Inside {worst} alone it is right in {round(100 * v['value'])} of 100 cases "
                f"(guessing {round(100 * v['chance'])})."
            )
        elif association > TIED:
            text += (
                f" No class occurs in two of them: nothing in this table can tell the {batch} from the "
                "tissue."
            )
        out.append(text)
    whole = [b for b in range(len(design.batches)) if not grouping.in_blocks[design.y == b].any()]
    name = grouping.kind.partition(";")[0]
    fewest = min((design.support["batches"][design.batches[b]]["groups"] for b in whole), default=FEW_GROUPS)
    if fewest < FEW_GROUPS:
        out.append(
            f"Only {fewest} {name}s in a {batch}: few, so differences between {name}s can pass for "
            f"the {batch} and the "
            f"interval is a rough one."
        )
    if not grouping.in_blocks.any():
        if relabellings is not None and relabellings < permutations:
            out.append(
                f"Other ways to share out the {batch} among the {name}s: only {relabellings}, so the "
                f"permutation p can't be below {1 / (1 + relabellings):.2g}."
            )
    elif permutations:
        out.append(
            "The permutations exchange pieces of slides: a small p says that the slides differ, not why "
            "they differ."
        )
    if constant and not blind:
        out.append(
            f"{constant} of {design.x.shape[1]} features are the same in every tile and count for nothing."
        )
    if abs(slide_even - value) > UNEVEN:
        out.append(
            f"Slides with many tiles weigh in the balanced accuracy: with every slide counted the same it is "
            f"{slide_even:.2f}, not {value:.2f}."
        )
    if ece > OVERSURE:
        out.append(
            f"Confidence and truth differ by {round(100 * ece)} points on average, even after calibration: "
            "read the confidence of single tiles as an order, not as a probability."
        )
    out += notes + design.notes
    if association is None and not blind:
        out.append(
            f"No tile has a class, so how far the tissue itself differs between one {batch} and the next is "
            "not known: differing tissue is recognised as well."
        )
    return out
