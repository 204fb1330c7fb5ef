"""What a site probe found, in a form that is kept with the study."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from napari_batchfx.errors import ProbeError
from napari_batchfx.study.tile_rows import TileRows

if TYPE_CHECKING:
    from napari_batchfx.probe import SiteProbeResult

__all__ = ["FITTED_FILE", "ProbeOutcome"]

#: The classifiers of the probe run last, beside ``probe.json``.
FITTED_FILE: Final = "probe.safetensors"
#: Votes of neighbours keep their training tiles: more than this isn't written with the study.
_MOST_BYTES: Final = 64_000_000


# Two runs are two results: comparing their arrays is for those who want it.
@dataclass(frozen=True, eq=False)
class ProbeOutcome:
    """A site probe, the tiles it is about, and what it was computed from.

    Parameters
    ----------
    result : SiteProbeResult
    tiles : TileRows
        One row a row of ``result.confidence``.
    computed_from : dict
        Encoder, tile geometry, stain variant, slides and settings.
    """

    result: SiteProbeResult
    tiles: TileRows
    computed_from: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "computed_from": self.computed_from,
            "tiles": self.tiles.to_dict(),
            "result": self.result.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""
        from napari_batchfx.probe import SiteProbeResult

        return cls(
            SiteProbeResult.from_dict(data["result"]),
            TileRows.from_dict(data["tiles"]),
            data["computed_from"],
        )

    def write_fitted(self, folder: Path) -> str:
        """Write the classifiers, so that a study opened again can score tiles that come later.

        Returns
        -------
        str
            Digest of the file, for :meth:`with_fitted`; empty where there are none, or too many to keep.

        Raises
        ------
        OSError
            If the folder can't be written.
        """
        path, fitted = folder / FITTED_FILE, self.result.fitted
        if fitted is None or _bytes(fitted) > _MOST_BYTES:
            path.unlink(missing_ok=True)
            return ""
        try:
            fitted.save(path)
        except ProbeError as error:
            raise OSError(str(error)) from error
        return _digest(path)

    def with_fitted(self, folder: Path, digest: str) -> Self:
        """The same with its classifiers, where the folder has them and they are this result's.

        A run that was killed between the two files leaves classifiers of another result: the digest tells.
        """
        from napari_batchfx.probe import FittedProbe

        path = folder / FITTED_FILE
        with contextlib.suppress(ProbeError, OSError):  # the result holds without them
            if digest and _digest(path) == digest:
                return replace(self, result=replace(self.result, fitted=FittedProbe.load(path)))
        return self


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bytes(fitted: Any) -> int:
    return sum(value.nbytes for scorer in fitted.scorers for value in scorer.arrays().values())
