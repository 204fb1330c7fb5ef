"""File > Open Sample: phantoms made on the spot and real tissue, opened as slides of the study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.errors import SampleError
from napari_batchfx.jobs import Job, Progress

if TYPE_CHECKING:
    from napari_batchfx.samples import DemoSlide
    from napari_batchfx.study import SlideEntry, Study
    from napari_batchfx.viewer.qtjobs import QtJob
    from napari_batchfx.viewer.session import Session

__all__ = ["SAMPLES", "demo_slides_job", "open_sample"]

SAMPLES = (
    (
        "two_scanners",
        "One tissue, two scanners (phantom)",
        "The same made-up tissue on two scanners; the truth is known for every tile.",
    ),
    (
        "two_hospitals",
        "Six patients, two hospitals (phantom)",
        "Small made-up slides of several patients from two hospitals.",
    ),
    (
        "immunohistochemistry",
        "Colon, immunohistochemistry (real)",
        "A small real image that comes with scikit-image.",
    ),
    (
        "cmu_1_small_region",
        "CMU-1 small region, H&E (real, 2 MB download)",
        "A real Aperio slide; downloaded once.",
    ),
    ("cmu_1", "CMU-1, the whole slide, H&E (real, 178 MB download)", "A real Aperio slide; downloaded once."),
    (
        "os_2_pair",
        "OS-2 on two scanners, Ki-67 (real, 1 MB download)",
        "A real section on two scanners; downloaded once.",
    ),
)

_FETCHED = {
    "immunohistochemistry": "immunohistochemistry",
    "cmu_1_small_region": "CMU-1-Small-Region.svs",
    "cmu_1": "CMU-1.svs",
    "os_2_pair": "OS-2",
}
_PAIR_UM, _PAIR_SEED = 1500.0, 3
_OS_2_SCANNERS = {"ndpi": "Hamamatsu", "vsi": "Olympus"}


def open_sample(session: Session, key: str) -> QtJob:
    """Make or fetch a sample off the GUI thread and add its slides to the study when it is there."""
    job = session.new_job()

    def show(found: list[dict[str, Any]]) -> None:
        for entry in _add_all(session, found):
            session.show_slide(entry)
        session.place_slides()
        session.viewer.reset_view()
        session.slides_changed.emit()

    job.succeeded.connect(show)
    job.start(_sample_job(key), "Preparing the sample")
    return job


def _add(session: Session, known: dict[str, Any]) -> SlideEntry:
    """Put a slide into the study with what is known about it."""
    meta = {key: value for key, value in known.items() if key not in ("path", "affine_um")}
    return session.study.add_slide(known["path"], **meta)


def _add_all(session: Session, found: list[dict[str, Any]]) -> list[SlideEntry]:
    """Put slides into the study; where it is known how they lie on the first one, they are laid so."""
    entries = [_add(session, known) for known in found]
    for entry, known in zip(entries, found, strict=True):
        if known.get("affine_um") is not None:
            lay_on(session.study, entries[0], entry, known["affine_um"])
    return entries


def lay_on(study: Study, reference: SlideEntry, entry: SlideEntry, affine_um: Any) -> None:
    """Align a slide as is known from how it was made."""
    from napari_batchfx.slides import Alignment
    from napari_batchfx.study.alignment import set_alignment

    if entry is reference or entry.alignment is not None:
        return
    known = Alignment(affine_um, float("nan"), float("nan"), "good", method="file")
    set_alignment(study, reference, entry, known)


def demo_slides_job(key: str, folder: Path | None = None) -> Job[tuple[DemoSlide, ...]]:
    """The slides of a phantom sample: made once, then kept in the cache folder.

    Parameters
    ----------
    key : {"two_scanners", "two_hospitals"}
    folder : Path, optional
        Where they are kept; a folder of the cache otherwise.
    """
    import napari_batchfx
    from napari_batchfx import samples
    from napari_batchfx.samples.fetching import cache_folder

    folder = folder or cache_folder() / f"phantom-{key}-{_PAIR_SEED}-{napari_batchfx.__version__}"
    yield Progress(0, 0, "looking for the sample", "slides")
    if (folder / "truth.json").is_file():
        try:
            kept = samples.load_truth(folder)
            if all(slide.path.is_file() for slide in kept):
                return kept
        except SampleError:  # damaged: it is made again
            pass
    if key == "two_scanners":
        return (yield from samples.demo_pair(folder, seed=_PAIR_SEED, size_um=_PAIR_UM))
    return (yield from samples.demo_cohort(folder))


def _sample_job(key: str) -> Job[list[dict[str, Any]]]:
    from napari_batchfx.samples import fetch_job

    if key in _FETCHED:
        paths = yield from fetch_job(_FETCHED[key])
        found: list[dict[str, Any]] = []
        for path in paths:
            scanner = next((name for part, name in _OS_2_SCANNERS.items() if f"-{part}." in path.name), None)
            found.append({"path": path, **({"scanner": scanner} if scanner else {})})
        return found
    slides = yield from demo_slides_job(key)
    return [
        {
            "path": slide.path,
            "site": slide.site,
            "scanner": slide.scanner,
            "stain": slide.stain,
            "patient": slide.patient,
            **({"affine_um": slide.affine_um} if key == "two_scanners" else {}),
        }
        for slide in slides
    ]


def _open_in_front(key: str) -> list[Any]:
    """Layers of a sample for napari, which wants them at once: the event loop runs on until the slides are there."""
    from qtpy.QtCore import QEventLoop

    from napari_batchfx.viewer import seam
    from napari_batchfx.viewer.layers import affine_to_napari, slide_layer_data
    from napari_batchfx.viewer.session import session_for

    viewer = seam.current_viewer()
    if viewer is None:
        raise SampleError("There is no napari window to open the sample in.")
    session = session_for(viewer)
    ended: list[Any] = []
    job, loop = session.new_job(), QEventLoop()
    job.succeeded.connect(ended.append)
    job.failed.connect(ended.append)
    job.ended.connect(loop.quit)
    job.start(_sample_job(key), "Preparing the sample")
    loop.exec()
    if not ended:
        raise SampleError("The sample was not opened: preparing it was cancelled.")
    if isinstance(ended[0], Exception):
        raise ended[0]
    layers = []
    for entry in _add_all(session, ended[0]):
        data, options, kind = slide_layer_data(session.study.open_slide(entry), entry.name)
        layers.append((data, {**options, "affine": affine_to_napari(entry.affine_um)}, kind))
    return layers


def two_scanners() -> list[Any]:
    """One tissue on two scanners, made on the spot."""
    return _open_in_front("two_scanners")


def two_hospitals() -> list[Any]:
    """Patients of two hospitals, made on the spot."""
    return _open_in_front("two_hospitals")


def immunohistochemistry() -> list[Any]:
    """Colon with DAB and haematoxylin, from scikit-image."""
    return _open_in_front("immunohistochemistry")


def cmu_1_small_region() -> list[Any]:
    """CMU-1-Small-Region.svs, downloaded once."""
    return _open_in_front("cmu_1_small_region")


def cmu_1() -> list[Any]:
    """CMU-1.svs, downloaded once."""
    return _open_in_front("cmu_1")


def os_2_pair() -> list[Any]:
    """The OS-2 pair, downloaded once."""
    return _open_in_front("os_2_pair")
