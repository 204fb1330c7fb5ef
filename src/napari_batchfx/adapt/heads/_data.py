"""A training table as arrays: classes, domains, controls, and the part that validates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import control_mask
from napari_batchfx.adapt.head import MIN_LABELLED
from napari_batchfx.adapt.reference import shown_name
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix
from napari_batchfx.probe.folds import grouped_folds

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["TrainingData"]

_FOLDS = 7


@dataclass(frozen=True)
class TrainingData:
    """Rows with features and a domain.

    Attributes
    ----------
    x : float32 (n, d)
    y, domain : int (n,)
        -1 in ``y`` where there is no class.
    control : bool (n,)
    train, valid : int
        Rows to draw from, and labelled rows to validate on; no group has rows in both.
    unit : int (n,)
        Group of each row.
    held_out : str
        What was held out together.
    """

    x: NDArray[np.float32]
    y: NDArray[np.intp]
    domain: NDArray[np.intp]
    control: NDArray[np.bool_]
    train: NDArray[np.intp]
    valid: NDArray[np.intp]
    unit: NDArray[np.intp]
    classes: tuple[str, ...]
    domains: list[str]
    batch: str
    held_out: str
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, table: AnnData, label: str, batch: str, controls: npt.ArrayLike | None, group: str, seed: int
    ) -> TrainingData:
        """Read and check a table."""
        x = np.asarray(feature_matrix(table), dtype=np.float32)
        codes, names = category_codes(table, label)
        finite = np.isfinite(x).all(axis=1)
        counts = np.bincount(codes[(codes >= 0) & finite], minlength=len(names))
        present = np.flatnonzero(counts)
        if len(present) < 2:
            what = f"only {names[present[0]]}" if len(present) else "no class"
            raise AdaptError(f"The training tiles have {what}: label tiles of at least two classes.")
        few = [f"{names[c]} ({counts[c]})" for c in present if counts[c] < MIN_LABELLED]
        if few:
            raise AdaptError(
                f"Too few labelled training tiles: {', '.join(few)}; at least {MIN_LABELLED} of each class."
            )
        warnings = []
        lost = int(((codes >= 0) & ~finite).sum())
        if lost:
            warnings.append(f"{lost:,} labelled tiles have missing features and were not used for training.")
        domain, domains = category_codes(table, batch)
        if not domains:  # one domain is no reason to refuse: episodes of it are still episodes
            domain, domains = np.zeros(table.n_obs, dtype=np.intp), ["all"]
            warnings.append(f"No tile has a {batch}, so all tiles count as one domain.")
        elif len(np.unique(domain[(codes >= 0) & finite])) < 2:
            warnings.append(
                f"The training tiles come from one {batch}: what differs between several can't be learned "
                "from them."
            )
        rows = np.flatnonzero(finite & (domain >= 0))
        y = np.full(table.n_obs, -1, dtype=np.intp)
        y[codes >= 0] = np.searchsorted(present, codes[codes >= 0])
        labelled = rows[y[rows] >= 0]
        unit, held_out = _units(table, labelled, y, group)
        valid, train = _hold_out(unit, labelled, rows, y, seed)
        return cls(
            x,
            y,
            domain,
            control_mask(table, controls) & finite,
            train,
            valid,
            unit,
            tuple(names[c] for c in present),
            domains,
            batch,
            held_out if len(valid) else "nothing",
            warnings,
        )

    def facts(self) -> dict[str, Any]:
        """What a file says of the training: counts, no names of patients or slides but the domains'."""
        both = self.y >= 0
        return {
            "tiles": {name: int((self.y == c).sum()) for c, name in enumerate(self.classes)},
            "domains": {
                shown_name(self.batch, d, name): {
                    "tiles": int((both & (self.domain == d)).sum()),
                    "controls": int((self.control & (self.domain == d)).sum()),
                }
                for d, name in enumerate(self.domains)
            },
            "validation": {"tiles": len(self.valid), "held_out": self.held_out},
        }


def _units(
    table: AnnData, labelled: NDArray[np.intp], y: NDArray[np.intp], group: str
) -> tuple[NDArray[np.intp], str]:
    """Codes (n,) of the largest thing of which every class has at least three."""
    for name in dict.fromkeys((group, "slide")):
        codes = category_codes(table, name)[0]
        if (codes[labelled] < 0).any():
            continue
        if min(len(np.unique(codes[labelled][y[labelled] == c])) for c in np.unique(y[labelled])) > 2:
            return codes, name
    return np.arange(table.n_obs), "tile"


def _hold_out(
    unit: NDArray[np.intp],
    labelled: NDArray[np.intp],
    rows: NDArray[np.intp],
    y: NDArray[np.intp],
    seed: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    folds = grouped_folds(unit[labelled], y[labelled], _FOLDS, seed)
    for k in range(_FOLDS):
        valid = labelled[folds == k]
        rest = labelled[folds != k]
        if len(valid) and np.array_equal(np.unique(y[rest]), np.unique(y[labelled])):
            return valid, rows[~np.isin(unit[rows], np.unique(unit[valid]))]
    return labelled[:0], rows
