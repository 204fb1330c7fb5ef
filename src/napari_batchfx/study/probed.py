"""What a site probe found, in a form that is kept with the study."""

from __future__ import annotations

import contextlib
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

    def write_fitted(self, folder: Path) -> None:
        """Write the classifiers, so that a study opened again can score tiles that come later.

        Raises
        ------
        OSError
            If the folder can't be written.
        """
        path, fitted = folder / FITTED_FILE, self.result.fitted
        if fitted is None or _bytes(fitted) > _MOST_BYTES:
            path.unlink(missing_ok=True)
            return
        try:
            fitted.save(path)
        except ProbeError as error:
            raise OSError(str(error)) from error

    def with_fitted(self, folder: Path) -> Self:
        """The same with its classifiers, where the folder has them and they are this result's."""
        from napari_batchfx.probe import FittedProbe

        if not (folder / FITTED_FILE).is_file():
            return self
        with contextlib.suppress(ProbeError):  # the result holds without them
            fitted = FittedProbe.load(folder / FITTED_FILE)
            # A run that was killed between the two files leaves classifiers of another result: the
            # temperatures of the folds tell, bit for bit.
            own = [float(value) for value in self.result.settings.get("temperature", [])]
            if [*fitted.temperatures] == own and list(fitted.batches) == self.result.batches:
                return replace(self, result=replace(self.result, fitted=fitted))
        return self


def _bytes(fitted: Any) -> int:
    return sum(value.nbytes for scorer in fitted.scorers for value in scorer.arrays().values())
