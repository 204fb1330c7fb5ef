"""Colours of the plots, readable on dark and on light ground and by all kinds of colour vision."""

from __future__ import annotations

from napari_batchfx.report.figures import CLASS_COLOURS

__all__ = ["ACCENT", "SERIES"]

#: Eight colours that stay apart with colour-vision deficiency: those of the classes on the slides, the yellow darker.
SERIES = tuple("#c9b400" if colour == "#f0e442" else colour for colour in CLASS_COLOURS)
ACCENT = "#d9731a"  # "recognised" of the overlay
