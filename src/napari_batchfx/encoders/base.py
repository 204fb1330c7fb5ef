"""What every encoder is: tiles in, vectors out, and everything that must be known to reproduce them."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.encoders.classifier import ClassifierHead
from napari_batchfx.encoders.lanes import Lanes
from napari_batchfx.errors import EncoderError

if TYPE_CHECKING:
    from napari_batchfx.encoders.precision import PrecisionCheck

__all__ = ["Encoder", "EncoderMemoryError", "check_names"]


class EncoderMemoryError(EncoderError):
    """A batch doesn't fit into memory; a smaller one may."""


class Encoder(ABC):
    """Turns tiles into vectors.

    Attributes
    ----------
    name : str
        Name for people ("UNI", "resnet18 (random weights)").
    key : str
        Identity of the numbers: id, hash of the weights, precision and assembly. Features with the same key
        can be put into one table; features with different keys cannot.
    kind : str
        ``"classical"``, ``"timm"`` or ``"transformers"``.
    dim : int
        Length of a vector.
    input_px : int
        Side of the tiles the encoder wants, in pixels.
    mpp : float
        Pixel size the encoder wants, in micrometres.
    mean, std : tuple of 3 floats
        What the encoder subtracts and divides by, on RGB in 0..1.
    licence : str
        Licence of the weights.
    assembly : str
        How the vector is put together ("pooled", "cls", "cls+mean").
    device, precision : str
        Where and how it runs ("cpu", "cuda:0"; "fp32", "fp16", "bf16").
    feature_names : tuple of str
        One name a number, the same for every tile.
    warnings : list of str
        What the user should know about this encoder.
    is_random : bool
        Whether the weights are random (tests, demos): such features mean little.
    head : ClassifierHead or None
        The classifier that came with the weights, which turns vectors into its own answers; None where there
        was none, or where the vector isn't the one it was trained on.
    precision_check : PrecisionCheck or None
        How close a reduced precision came to fp32, and what was chosen; None where there was no choice.
    least_at_once, most_at_once : int
        Tiles that are worth giving to the model at once.

    Examples
    --------
    >>> from napari_batchfx.encoders import load
    >>> with load("colour-statistics") as encoder:
    ...     encoder.embed(np.full((2, 64, 64, 3), 200, np.uint8)).shape == (2, encoder.dim)
    True
    """

    name: str = ""
    key: str = ""
    kind: str = ""
    dim: int = 0
    input_px: int = 224
    mpp: float = 0.5
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    licence: str = ""
    assembly: str = ""
    device: str = "cpu"
    precision: str = "fp32"
    is_random: bool = False
    head: ClassifierHead | None = None
    precision_check: PrecisionCheck | None = None
    least_at_once: int = 1
    most_at_once: int = 256

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._lock = threading.Lock()
        self._closed = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name for each of the ``dim`` numbers."""
        return tuple(f"f{i:04d}" for i in range(self.dim))

    def embed(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors of a batch of tiles.

        Parameters
        ----------
        tiles : uint8 array (n, h, w, 3)
            RGB tiles. Where h or w differ from the encoder's input they are resized to it.

        Returns
        -------
        float32 array (n, dim)
            One vector a tile; a vector doesn't depend on the other tiles of the batch.

        Raises
        ------
        EncoderError
            If ``tiles`` is no such array, the encoder is closed, or the model fails.
        EncoderMemoryError
            If the batch doesn't fit into memory.
        """
        tiles = self._checked(tiles)
        if len(tiles) == 0:
            return np.zeros((0, self.dim), np.float32)
        with self._lock:
            features = self._embed(tiles)
        return np.ascontiguousarray(features, dtype=np.float32)

    def seen(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Tiles as the model sees them: after its own resize, before mean and standard deviation.

        Parameters
        ----------
        tiles : uint8 array (n, h, w, 3)
            RGB tiles, as for :meth:`embed`.

        Returns
        -------
        uint8 array (n, input_px, input_px, 3)
            The tiles themselves where they have that size, and for encoders that take any.

        Raises
        ------
        EncoderError
            If ``tiles`` is no such array, or the encoder is closed.
        """
        return self._seen(self._checked(tiles))

    def _seen(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Checked tiles after the encoder's own resize; here there is none."""
        return tiles

    def lanes(self) -> Lanes:
        """Threads that run this encoder, for a job that encodes many batches; close them when done."""
        return Lanes(self.embed)

    def _checked(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if self._closed:
            raise EncoderError(f"{self.name}: the encoder is closed; load it again.")
        tiles = np.asarray(tiles)
        if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8 or 0 in tiles.shape[1:]:
            raise EncoderError(
                f"{self.name}: tiles must be 8-bit RGB, a uint8 array (n, h, w, 3); got {tiles.dtype} "
                f"{tiles.shape}."
            )
        return tiles

    @abstractmethod
    def _embed(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors of n > 0 checked tiles; called by one thread at a time."""

    def info(self) -> dict[str, Any]:
        """Everything that goes into the provenance of a table, as plain values."""
        check = self.precision_check
        checked = {} if check is None else {"precision_cosine": float(check.worst)}
        classes = {"classes": list(self.head.class_names)} if self.head is not None else {}
        return {
            "name": self.name,
            "key": self.key,
            "kind": self.kind,
            "dim": int(self.dim),
            "input_px": int(self.input_px),
            "mpp": float(self.mpp),
            "mean": [float(v) for v in self.mean],
            "std": [float(v) for v in self.std],
            "assembly": self.assembly,
            "precision": self.precision,
            "device": self.device,
            "licence": self.licence,
            "random_weights": bool(self.is_random),
            "warnings": list(self.warnings),
            **checked,
            **classes,
        }

    def close(self) -> None:
        """Free the model's memory; the encoder can't be used any more."""
        self._closed = True

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        what = f"{self.dim} numbers, {self.input_px} px at {self.mpp:g} µm/px"
        return f"<{type(self).__name__} {self.name!r}: {what}>"


def check_names(device: str, precision: str) -> None:
    """:class:`EncoderError` for a device or precision that no encoder has; torch isn't asked."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", str(device)):
        raise EncoderError(f'There is no device "{device}"; use "auto", "cpu", "cuda" or "mps".')
    if precision not in ("auto", "fp32", "fp16", "bf16"):
        raise EncoderError(f'There is no precision "{precision}"; use "auto", "fp32", "fp16" or "bf16".')
