"""Pixel sizes that the user gave once, remembered by a slide's content for every later study."""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["forget_pixel_size", "recall_pixel_size", "remember_pixel_size"]

_MOST = 10_000


def _file() -> Path:
    given = os.environ.get("BATCHFX_CONFIG")
    if given:
        return Path(given) / "pixel-sizes.json"
    import platformdirs

    return Path(platformdirs.user_config_dir("napari-batchfx", appauthor=False)) / "pixel-sizes.json"


def _read() -> dict[str, list[float]]:
    try:
        data = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: it is only a convenience
        return {}
    return data if isinstance(data, dict) else {}


def remember_pixel_size(fingerprint: str, mpp: tuple[float, float]) -> bool:
    """Keep what the user said of a slide; False where it can't be kept (a full disk only loses the memory).

    Parameters
    ----------
    fingerprint : str
        Content of the slide; a copy under another name is the same slide.
    mpp : (float, float)
        Micrometres a pixel, (y, x).
    """
    known = _read()
    known.pop(fingerprint, None)
    known[fingerprint] = [float(mpp[0]), float(mpp[1])]
    for oldest in list(known)[: max(0, len(known) - _MOST)]:
        del known[oldest]
    return _write(known)


def forget_pixel_size(fingerprint: str) -> bool:
    """Drop what the user said of a slide; False where it can't be dropped (or there is nothing)."""
    known = _read()
    return known.pop(fingerprint, None) is not None and _write(known)


def _write(known: dict[str, list[float]]) -> bool:
    from napari_batchfx.study.files import write_text

    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(known, indent=1))
    except OSError:
        return False
    return True


def recall_pixel_size(fingerprint: str) -> tuple[float, float] | None:
    """The pixel size (y, x) that was given for this slide before, in micrometres, or ``None``.

    Examples
    --------
    >>> remember_pixel_size("0" * 32, (0.5, 0.5))
    True
    >>> recall_pixel_size("0" * 32), recall_pixel_size("1" * 32)
    ((0.5, 0.5), None)
    """
    from napari_batchfx.slides.metadata import plausible_mpp

    value = _read().get(fingerprint)
    try:
        y, x = (float(side) for side in value or ())
    except (TypeError, ValueError):
        return None
    return plausible_mpp(y, x)
