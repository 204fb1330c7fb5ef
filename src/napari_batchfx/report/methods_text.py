"""The methods of a report as one paragraph that can be pasted into a paper."""

from __future__ import annotations

from napari_batchfx.report.data import ReportData

__all__ = ["asked", "classifiers", "methods_paragraph"]

_CLASSIFIERS = {
    "logistic": "a multinomial logistic regression with an L2 penalty on standardised features",
    "centroid": "the nearest class centroid",
    "knn": "a vote of the nearest neighbours",
    "linear": "one linear layer trained with Adam, as in the paper",
}


def classifiers(data: ReportData) -> str:
    """Which classifiers the probes of a report are, in words."""
    names = [str(getattr(section.result, "probe", "") or "logistic") for section in data.probes]
    return "; ".join(_CLASSIFIERS.get(name, name) for name in dict.fromkeys(names))


def asked(data: ReportData) -> list[str]:
    """What was asked, a question each, in the order it was.

    Examples
    --------
    >>> from napari_batchfx.report import AdaptationRow
    >>> row = AdaptationRow("linear classifier", "TVN", trained_on="CS2", applied_to="S210", batch="scanner")
    >>> asked(ReportData("Two scanners", adaptations=[row]))[0][:61]
    'Will a classifier that learned from CS2 hold on S210, without'
    """
    questions = []
    for section in data.probes:
        kept = str(getattr(section.result, "grouped_by", "") or "")
        text = f"Can a simple classifier tell the {section.batch} from one tile"
        text += f" of a {kept} it has not seen" if kept in ("patient", "slide") else ""
        questions.append(f"{text} ({section.encoder}, {section.stain})?")
    pairs: dict[tuple[str, str, str], list[str]] = {}
    for row in data.adaptations:
        pairs.setdefault((row.trained_on, row.applied_to, row.batch), []).append(row.correction)
    for (learned, applied, batch), corrections in pairs.items():
        questions.append(
            f"Will a classifier that learned from {learned or 'the labelled slides'} hold on "
            f"{applied or 'the others'}, without and with correction for the {batch or 'batch'} "
            f"({', '.join(dict.fromkeys(corrections))})?"
        )
    return list(dict.fromkeys(questions))


def methods_paragraph(data: ReportData) -> str:
    """The methods as prose: slides, tiles, encoder, stain, probe, adaptation, software.

    Empty where nothing was measured. Only what stands in the report is said.

    Examples
    --------
    >>> from napari_batchfx.report import AdaptationRow, SlideRow
    >>> slides, row = [SlideRow("A", scanner="CS2")], AdaptationRow("linear classifier", "TVN")
    >>> methods_paragraph(ReportData("S", slides=slides, adaptations=[row]))[:56]
    '1 whole-slide image was analysed from 1 scanner (CS2). P'
    """
    if not data.probes and not data.adaptations:
        return ""
    slides = len(data.slides)
    scanners = sorted({slide.scanner for slide in data.slides if slide.scanner})
    sites = sorted({slide.site for slide in data.slides if slide.site})
    text = [f"{_count(slides, 'whole-slide image')} {'was' if slides == 1 else 'were'} analysed"]
    where = [
        f"{_count(len(names), what)} ({', '.join(names)})"
        for names, what in ((scanners, "scanner"), (sites, "site"))
        if names
    ]
    text[0] += f" from {' and '.join(where)}." if where else "."
    text += [str(method) for method in data.methods]
    normalised = sorted({row.method for row in data.stains})
    if normalised:
        text.append(
            f"Stain was normalised ({', '.join(normalised)}) with statistics estimated once a slide over its "
            "tissue."
        )
    if data.probes:
        first = data.probes[0].result
        settings = getattr(first, "settings", {}) or {}
        kept = str(getattr(first, "grouped_by", "") or "group")
        batches = ", ".join(dict.fromkeys(section.batch for section in data.probes))
        permuted = settings.get("permutations")
        text.append(
            f"The signature of the {batches} was measured by a probe (Kömen et al., 2024), "
            f"{classifiers(data)}, scored out of fold with all tiles of a {kept} held out together; what it "
            "has to choose was chosen inside the training folds, slides counted equally within a class and "
            "classes equally. Balanced accuracies are given with 95 % intervals over what was held out "
            f"together{f' and a permutation p over {permuted} relabellings' if permuted else ''}."
        )
    if data.adaptations:
        corrections = ", ".join(dict.fromkeys(row.correction for row in data.adaptations))
        total = max(row.n_controls for row in data.adaptations)
        text.append(
            "Predictions were made by a linear classifier trained on the labelled tiles of the slides named "
            "in the table, "
            f"without correction and after correcting the features on {_count(total, 'control tile')} "
            f"({corrections}). "
            "Labels of the slides it was applied to were used to judge it only. What a correction costs in "
            "biology is "
            "given as class retention, the balanced accuracy of a vote of nearest neighbours from other "
            "groups "
            "(Kömen et al., 2025)."
        )
    if data.versions:
        text.append(
            "Software: " + ", ".join(f"{name} {version}" for name, version in data.versions.items()) + "."
        )
    return " ".join(text)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
