"""What a slide's file says, as plain values for a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_batchfx.slides.slide import Slide

__all__ = ["slide_info"]


def slide_info(slide: Slide) -> dict[str, Any]:
    """Return plain values; nothing that could name a patient is among them."""
    return {
        "name": slide.name,
        "shape": slide.shape,
        "levels": [
            {"shape": level.shape, "downsample": level.downsample, "stored": level.stored}
            for level in slide.levels
        ],
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "extent_um": None if slide.mpp is None else slide.extent_um,
        "vendor": slide.vendor,
        "scanner": slide.scanner,
        "scanner_serial": slide.scanner_serial,
        "objective_power": slide.objective_power,
        "scan_date": slide.scan_date,
        "modality": slide.modality,
        "icc_profile": slide.icc_profile is not None,
        "icc_name": slide.icc_name,
        "icc": slide.icc,
        "icc_note": slide.icc_note,
        "associated": slide.associated,
        "n_damaged": len(slide.damage),
        "lost_share": slide.lost_share,
        "fingerprint": slide.fingerprint,
    }
