"""What is known about an encoder before it is loaded, for a picker."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EncoderCard"]


@dataclass(frozen=True)
class EncoderCard:
    """What is known about an encoder before it is loaded.

    Attributes
    ----------
    name, title, publisher : str
        Name to load it by, name for people, and who published it.
    kind : str
        ``"classical"``, ``"timm"``, ``"transformers"``, or ``"none"`` where it can't be loaded here.
    source : str
        Where the weights come from: an address, a file's name, or ``"built in"``.
    licence, licence_url : str
        Licence of the weights (``"unknown"`` where nothing says) and where to read it.
    gated : bool
        Whether the authors' terms have to be accepted on the hub first.
    size_bytes : int or None
        Size of the weights; None where it isn't known before asking the hub.
    size_is_estimate : bool
        Whether that is four bytes a parameter and no published size.
    cached : bool
        Whether the weights are on this machine.
    dim, input_px, mpp
        Length of the vector, tile side in pixels, pixel size in micrometres; None where not known.
    assembly : str
        How the vector is put together.
    other_assemblies : dict
        Other ways in use, and the length of their vectors.
    needs : str
        What to install before it can be loaded; empty where nothing is missing.
    loadable : bool
        Whether :func:`napari_batchfx.encoders.load` can load it, once what it ``needs`` is there.
    note, citation : str
        What a user should know, and the paper.
    """

    name: str
    title: str = ""
    publisher: str = ""
    kind: str = "timm"
    source: str = ""
    licence: str = "unknown"
    licence_url: str = ""
    gated: bool = False
    size_bytes: int | None = None
    size_is_estimate: bool = False
    cached: bool = False
    dim: int | None = None
    input_px: int | None = None
    mpp: float | None = None
    assembly: str = ""
    other_assemblies: dict[str, int] = field(default_factory=dict)
    needs: str = ""
    loadable: bool = True
    note: str = ""
    citation: str = ""

    @property
    def size_text(self) -> str:
        """``343 MB``, ``about 1.2 GB``, or empty."""
        if self.size_bytes is None:
            return ""
        size = (
            f"{self.size_bytes / 1e9:.2g} GB" if self.size_bytes >= 1e9 else f"{self.size_bytes / 1e6:.3g} MB"
        )
        return f"about {size}" if self.size_is_estimate else size

    def text(self) -> str:
        """One line for a picker: vector, licence, gated, size, on this machine or not, what is missing."""
        parts = [
            f"{self.dim:,} numbers" if self.dim else "",
            f"{self.input_px} px at {self.mpp:g} µm/px" if self.input_px and self.mpp else "",
            self.licence,
            "terms to accept on the hub" if self.gated else "",
            self.size_text,
            "on this machine" if self.cached else ("to download" if self.loadable and self.source else ""),
            f"needs: {self.needs}" if self.needs else "",
            "" if self.loadable else "can't be loaded here",
        ]
        return ", ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return dataclasses.asdict(self)
