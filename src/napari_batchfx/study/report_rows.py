"""Probes and adaptations of a study as the rows of its report, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from napari_batchfx.study.questions import question

if TYPE_CHECKING:
    from napari_batchfx.report import (
        AdaptationRow,
        ControlsSection,
        Estimate,
        ProbeSection,
    )
    from napari_batchfx.study.adapted import AdaptOutcome
    from napari_batchfx.study.bench import Bench
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["adaptation_rows", "control_section", "former_names", "probe_sections"]

CLASSIFIERS = {
    "logistic": "logistic regression",
    "centroid": "nearest centroid",
    "knn": "nearest neighbours",
    "linear": "linear layer (Adam)",
}


def probe_sections(study: Bench) -> list[ProbeSection]:
    """Every site probe that was run, in the order of what was asked."""
    from napari_batchfx.report import ProbeSection

    return [
        ProbeSection(
            outcome.result,
            outcome.result.batch,
            outcome.computed_from["encode"]["encoder"],
            stain_name(outcome.computed_from["encode"]),
            tiles=tiles_name(outcome.computed_from["encode"]) + _classifier(outcome),
            is_current=study.still_holds(outcome),
        )
        for outcome in _ordered(study.results.probes)
    ]


def _classifier(outcome: ProbeOutcome) -> str:
    """Which classifier was asked, where it isn't the usual one."""
    name = CLASSIFIERS.get(outcome.result.probe, outcome.result.probe)
    return "" if outcome.result.probe == "logistic" else f"; {name}"


def adaptation_rows(study: Bench) -> list[AdaptationRow]:
    """Every adaptation that was run, in the order of what was asked; the one run last is the chosen one."""
    return [_row(study, outcome) for outcome in _ordered(study.results.adaptations)]


def _row(study: Bench, outcome: AdaptOutcome) -> AdaptationRow:
    from napari_batchfx.report import AdaptationRow

    origin = outcome.computed_from
    settings, encode, batch = origin["settings"], origin["encode"], origin["settings"]["batch"]
    comparison, controls = outcome.numbers["comparison"], outcome.numbers["diagnostics"]
    n = comparison["n_truth"]
    learned = _values(study, origin.get("learned_from", ()), batch) or ", ".join(settings["train_on"])
    return AdaptationRow(
        head=_head_name(settings.get("head", "linear")),
        correction=_method_name(settings),
        batch=batch,
        encoder=encode["encoder"],
        stain=stain_name(encode),
        tiles=tiles_name(encode),
        trained_on=learned or f"the first {batch} with classes",
        applied_to=_values(study, origin.get("applied_to", ()), batch) or "all other slides",
        before=_estimate(comparison["balanced_accuracy_before"], n),
        after=_estimate(comparison["balanced_accuracy_after"], n),
        difference=_estimate(comparison.get("balanced_accuracy_difference"), n),
        f1_before=_estimate(comparison["macro_f1_before"], n),
        f1_after=_estimate(comparison["macro_f1_after"], n),
        chance=1 / len(outcome.before.classes),
        n_tiles=comparison["n"],
        n_changed=comparison["n_changed"],
        retention_before=_estimate(outcome.numbers["retention_before"]),
        retention_after=_estimate(outcome.numbers["retention_after"]),
        signature_after=_finite(controls.get("probe_after")),
        signature_chance=controls.get("chance"),
        n_controls=sum(controls["n"].values()),
        controls_verdict=controls["verdict"],
        sentence=outcome.sentence,
        warnings=_warnings(outcome),
        is_current=study.still_holds(outcome),
        is_chosen=outcome is study.results.adapt,
    )


#: What is told of the control samples: key, name, how to read it.
_MEASURES = (
    ("largest_slide_share", "largest slide", "largest share of a batch's controls from one slide"),
    ("effective_rank", "effective rank", "directions in which the controls really vary"),
    ("probe_before", "signature before", "how well the batch is recognised on held-out controls"),
    ("probe_after", "signature after", "the same after correction; guessing is what is hoped for"),
    ("chance", "guessing", "what guessing gets there"),
    ("retention_before", "class structure before", "on tiles that are no controls"),
    ("retention_after", "class structure after", "a fall is what the correction costs in biology"),
    ("direction", "direction", "1: the controls move as the other tiles do; 0: they tell nothing of them"),
    (
        "placebo",
        "placebo",
        "movement for batches that don't exist, as a share of the real one: near 0 is good",
    ),
    ("reach", "reach", "how far other tiles lie from them in their spread: 1 alike, over 2 a guess"),
    ("variance_ratio", "variance after / before", "far below 1: spread was lost with the batch"),
)


def control_section(study: Bench) -> ControlsSection | None:
    """The control samples of the adaptation run last, and what was found out about them."""
    from napari_batchfx.report import ControlsSection

    outcome = study.results.adapt
    if outcome is None:
        return None
    found, settings = outcome.numbers["diagnostics"], outcome.computed_from["settings"]
    slides = found.get("n_slides") or {}
    measures = [
        (name, f"{float(value):.2f}" if key != "effective_rank" else f"{float(value):.1f}", how)
        for key, name, how in _MEASURES
        if (value := found.get(key)) is not None
    ]
    if found.get("split_by"):
        measures.insert(
            0, ("halves split by", str(found["split_by"]), "one half is fitted on, the other judges")
        )
    return ControlsSection(
        settings["batch"],
        str(found["verdict"]),
        [str(reason) for reason in found.get("reasons") or ()],
        {str(name): (int(n), int(slides.get(name, 0))) for name, n in found["n"].items()},
        measures,
        _method_name(settings),
    )


def _finite(value: float | None) -> Estimate | None:
    from napari_batchfx.report import Estimate

    return None if value is None else Estimate(float(value))


def _head_name(head: str) -> str:
    from napari_batchfx.adapt.heads.offered import OFFERED_HEADS

    return OFFERED_HEADS[head].label if head in OFFERED_HEADS else "linear classifier"


def _method_name(settings: dict[str, Any]) -> str:
    if settings.get("head", "linear") != "linear":
        return "none (the classifier adapts by itself)"
    return correction_name(settings["method"])


def correction_name(method: str) -> str:
    """In words; a method that this version doesn't know (a study of a later one) by its id."""
    from napari_batchfx.adapt.methods import REGISTRY

    if method not in REGISTRY:
        return method
    return REGISTRY[method].name + (", offline baseline" if REGISTRY[method].is_offline else "")


def _warnings(outcome: AdaptOutcome) -> list[str]:
    """The warnings, with each reason against the control samples by itself: rows share some of them."""
    controls = outcome.numbers["diagnostics"]
    start = f"The control samples are {controls['verdict']}: "
    texts: list[str] = []
    for warning in outcome.warnings:
        texts += list(controls["reasons"]) if warning.startswith(start) else [warning]
    return texts


def stain_name(encode: dict[str, Any]) -> str:
    """The stain variant of encode settings, in words."""
    if not encode.get("normalizer"):
        return "as scanned"
    target = "all slides" if encode.get("cohort") else encode.get("target") or "built-in"
    return f"{stain_label(str(encode['normalizer']))}, target {target}"


def stain_label(name: str) -> str:
    """What people call a stain method; its id where it is one of another version."""
    from napari_batchfx.stain import methods

    return next((one.label for one in methods() if one.id == name), name.capitalize())


def tiles_name(encode: dict[str, Any]) -> str:
    """The tiles of encode settings, in words."""
    text = f"{encode['size_px']} px at {encode['mpp']:g} µm"
    step = encode.get("stride_px")
    return text if step in (None, encode["size_px"]) else f"{text}, every {step} px"


def former_names(study: Bench) -> dict[str, str]:
    """Names that results still use, and the slide's name now: ``""`` where it left the study."""
    now = {entry.fingerprint: entry.name for entry in study.slides}
    found: dict[str, str] = {}
    outcomes: list[ProbeOutcome | AdaptOutcome] = [*study.results.probes, *study.results.adaptations]
    for outcome in outcomes:
        for name, fingerprint in outcome.computed_from.get("slides", {}).items():
            if name not in now.values():
                found[name] = now.get(fingerprint, "")
        target = outcome.computed_from["encode"].get("target")
        if target and target not in now.values():
            found.setdefault(target, "")
    patients = {entry.patient for entry in study.slides}
    for probe in study.results.probes:
        if probe.result.batch == "patient":
            found.update({name: "" for name in probe.result.batches if name not in patients})
    return found


def _ordered(outcomes: list[Any]) -> list[Any]:
    found: list[AdaptOutcome | ProbeOutcome] = sorted(outcomes, key=lambda one: question(one.computed_from))
    return found


def _values(study: Bench, fingerprints: Iterable[str], batch: str) -> str:
    """What the slides are called in terms of the batch, each once."""
    from napari_batchfx.study.tables import batch_value

    entries = {entry.fingerprint: entry for entry in study.slides}
    known = [entries[one] for one in fingerprints if one in entries]
    return ", ".join(dict.fromkeys(batch_value(entry, batch) or entry.name for entry in known))


def _estimate(found: dict[str, Any] | None, n: int | None = None) -> Estimate | None:
    from napari_batchfx.report import Estimate

    if found is None or found["value"] is None:
        return None
    low, high = found.get("ci") or (None, None)
    interval = None if low is None or high is None else (float(low), float(high))
    return Estimate(float(found["value"]), interval, n or found.get("n"))
