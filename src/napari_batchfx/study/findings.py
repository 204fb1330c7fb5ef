"""What was found by looking into a probe, kept with the study: components, metrics, before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from napari_batchfx.study.before_after import BeforeAfter
from napari_batchfx.study.settings import EncodeSettings
from napari_batchfx.study.tile_rows import TileRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_batchfx.probe import SignatureResult
    from napari_batchfx.probe.metrics import MetricResult
    from napari_batchfx.study.probed import ProbeOutcome

__all__ = ["AfterOutcome", "ComponentsOutcome", "Finding", "ProbeAfter", "RobustnessOutcome"]

#: What a finding adds to what its probe was computed from.
_OWN = ("asked", "drawn")


@dataclass(frozen=True, eq=False)
class Finding(ABC):
    """What all findings about a probe have in common.

    Parameters
    ----------
    computed_from : dict
        What the probe was computed from, with ``asked`` (what else was asked, as plain values) and ``drawn``
        (digest of slides, regions and control samples: classes come from them).
    """

    computed_from: dict[str, Any]

    #: Kind of the step, and name of the file in ``results``.
    kind: ClassVar[str] = ""

    @property
    def probe_from(self) -> dict[str, Any]:
        """What its probe was computed from."""
        return {key: value for key, value in self.computed_from.items() if key not in _OWN}

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked besides the probe."""
        said: dict[str, Any] = self.computed_from.get("asked") or {}
        return said

    def is_about(self, probe: ProbeOutcome) -> bool:
        """Whether it was found about this run of a probe: same tiles, same settings."""
        return self.probe_from == probe.computed_from

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What came out, in a line."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""


@dataclass(frozen=True, eq=False)
class ComponentsOutcome(Finding):
    """What carries the batch of a probe.

    Parameters
    ----------
    result : SignatureResult
    """

    result: SignatureResult
    kind: ClassVar[str] = "components"

    @property
    def sentence(self) -> str:
        """The component that tells two batches apart best."""
        areas = [(max(one), one.index(max(one)), pair) for pair, one in self.result.auroc.items() if one]
        if not areas:
            return ""
        area, number, pair = max(areas)
        share = 100 * self.result.explained_variance[number]
        named = f"Component {number + 1} ({share:.1f} % of the variance)"
        return f"{named} tells {pair} apart best: AUROC {area:.2f}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"computed_from": self.computed_from, "result": self.result.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""
        from napari_batchfx.probe import SignatureResult

        return cls(data["computed_from"], SignatureResult.from_dict(data["result"]))


@dataclass(frozen=True, eq=False)
class RobustnessOutcome(Finding):
    """How batch and biology lie in the features of a probe.

    Parameters
    ----------
    metrics : dict of str to MetricResult
        By name of the function. Read from the disk they have no value a tile.
    """

    metrics: dict[str, MetricResult]
    kind: ClassVar[str] = "robustness"

    @property
    def sentence(self) -> str:
        """Robustness index and class retention; mixing where no tile has a class."""
        shown = {
            "robustness_index": "robustness index",
            "class_retention": "class by vote",
            "ilisi": "mixing (iLISI)",
        }
        known = [
            f"{name} {one.value:.2f}"
            for key, name in shown.items()
            if (one := self.metrics.get(key)) is not None and one.value == one.value
        ]
        text = ", ".join(known[:2]) or "nothing could be measured"
        return f"{text[0].upper()}{text[1:]}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        metrics = {name: one.to_dict() for name, one in self.metrics.items()}
        return {"computed_from": self.computed_from, "metrics": metrics}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""
        from napari_batchfx.probe.metrics import MetricResult

        return cls(
            data["computed_from"],
            {name: MetricResult.from_dict(one) for name, one in data["metrics"].items()},
        )


@dataclass(frozen=True, eq=False)
class ProbeAfter:
    """A probe before and after.

    Parameters
    ----------
    comparison : BeforeAfter
        Accuracy of the probe, robustness index and class retention on both sides; both probes with the same
        folds on the same tiles.
    after : str
        Id of the stain method or correction.
    kind : str
        "stain" or "correction".
    tiles : TileRows
        One row a row of both probes.
    encode : EncodeSettings
        Of the tiles before.
    warnings : tuple of str
        What could mislead.
    """

    comparison: BeforeAfter
    after: str
    kind: str
    tiles: TileRows
    encode: EncodeSettings
    warnings: tuple[str, ...] = ()

    @property
    def difference(self) -> NDArray[np.float64]:
        """Confidence after less before, a row a tile; NaN where either has none."""
        found = self.comparison
        change: NDArray[np.float64] = found.probe_after.confidence - found.probe_before.confidence
        return change

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without those of single tiles."""
        said = self.comparison.to_dict()
        return {"after": self.after, "kind": self.kind, **said, "warnings": list(self.warnings)}


@dataclass(frozen=True, eq=False)
class AfterOutcome(Finding):
    """A probe beside the same probe on other features.

    Parameters
    ----------
    found : ProbeAfter
    """

    found: ProbeAfter
    kind: ClassVar[str] = "probe-after"

    @property
    def sentence(self) -> str:
        """What it was compared with, and how many tiles are recognised before and after."""
        return f"{self.found.after}: {self.found.comparison.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, every tile too."""
        found = self.found
        return {
            "computed_from": self.computed_from,
            "after": found.after,
            "of": found.kind,
            "tiles": found.tiles.to_dict(),
            "encode": found.encode.model_dump(mode="json"),
            "comparison": found.comparison.to_kept(),
            "warnings": list(found.warnings),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""
        found = ProbeAfter(
            BeforeAfter.from_kept(data["comparison"]),
            data["after"],
            data["of"],
            TileRows.from_dict(data["tiles"]),
            EncodeSettings(**data["encode"]),
            tuple(data["warnings"]),
        )
        return cls(data["computed_from"], found)
