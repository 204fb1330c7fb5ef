"""What all corrections have in common: fit, apply to a slide that comes later, save and load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.state import encoder_key, read_state, write_state
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import category_codes, feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["FEW_CONTROLS", "MIN_CONTROLS", "TIED", "Correction", "State", "control_mask", "load"]

MIN_CONTROLS = 16
FEW_CONTROLS = 64
TIED = 0.999

State: TypeAlias = dict[str, NDArray[np.float64]]


class Correction(ABC):
    """A map of features that takes a batch's own look away.

    Part of the fit is shared by all batches and part belongs to one, so that a batch that comes later joins
    by itself (:meth:`add_batches`) and nothing of the others moves. Labels are never fitted to.

    Attributes
    ----------
    batches : list of str
        Batches that have been fitted.
    diagnostics : dict
        Numbers of the fit: controls and slides of each batch, rank, shrinkage, condition number.
    warnings : list of str
        What limits it, in words.

    Examples
    --------
    >>> from napari_batchfx.adapt import TVN, StandardizeOnControls
    >>> [one.kind for one in (TVN, StandardizeOnControls) if issubclass(one, Correction)]
    ['tvn', 'standardize']
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Correction]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            Correction._kinds[cls.kind] = cls

    def __init__(self) -> None:
        self.batch = ""
        self.batches: list[str] = []
        self.dim = 0
        self.encoder = ""
        self.covariates: tuple[str, ...] = ()
        self.diagnostics: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._pooled: State = {}
        self._by_batch: dict[str, State] = {}
        self._notes: dict[str, Any] = {}

    @abstractmethod
    def _fit(self, table: AnnData, controls: npt.ArrayLike | None, known: frozenset[str]) -> None:
        """Fit the batches that are not ``known``: fills ``_pooled`` (the first time) and ``_by_batch``."""

    @abstractmethod
    def _apply(self, x: NDArray[np.float64], state: State) -> NDArray[np.float64]:
        """Correct rows of one batch."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Arguments of the constructor, for the file."""

    def fit(
        self,
        table: AnnData,
        batch: str = "site",
        controls: npt.ArrayLike | None = None,
        covariates: Sequence[str] = (),
    ) -> Self:
        """Estimate the correction.

        Parameters
        ----------
        table : anndata.AnnData
            ``X`` (n, d).
        batch : str
            Column of ``obs`` to correct for.
        controls : bool array (n,), optional
            Control samples; default ``obs["control"]``.
        covariates : sequence of str
            Columns that say what kind of tissue a control is, so that a different mixture of tissue does not
            pass for a technical difference. Controls are weighted so that each kind counts the same in every
            batch, and kinds that are not in every batch are left out; :class:`ComBat` fits them instead.
            They are looked at on controls only.

        Returns
        -------
        Correction
            Itself.

        Raises
        ------
        AdaptError
            With the reason: no controls, a batch with fewer than 16, missing features, or controls whose
            class and batch are fully tied.
        """
        self.batch, self.dim, self.encoder = batch, int(table.n_vars), encoder_key(table)
        self.covariates = tuple(covariates)
        self.warnings, self.diagnostics, self._by_batch = [], {}, {}
        self._pooled, self._notes = {}, {}
        self._fit(table, controls, frozenset())
        self.batches = list(self._by_batch)
        return self

    def add_batches(self, table: AnnData, controls: npt.ArrayLike | None = None) -> Self:
        """Fit batches that came later through their controls; what is fitted already stays as it is.

        Raises
        ------
        AdaptError
            As :meth:`fit`; also if the table comes from another encoder.
        """
        self._check_fitted()
        self._check_table(table)
        self._fit(table, controls, frozenset(self.batches))
        self.batches = list(self._by_batch)
        return self

    def transform(self, table: AnnData) -> AnnData:
        """Corrected copy of a table: ``X`` float32 (n, d), computed in float64.

        Raises
        ------
        AdaptError
            If a batch has not been fitted, features are missing, or the table comes from another encoder.
        """
        import anndata

        self._check_fitted()
        self._check_table(table)
        codes, names = category_codes(table, self.batch)
        if (codes < 0).any():
            raise AdaptError(
                f"{int((codes < 0).sum()):,} tiles have no {self.batch}: give each slide one in the "
                "Slides dock."
            )
        unknown = [name for name in names if name not in self._by_batch]
        if unknown:
            raise AdaptError(
                f"{self.batch} {unknown[0]} was not there when the correction was fitted: mark control "
                "samples on it and add it."
            )
        x = feature_matrix(table, np.float64)
        missing = int((~np.isfinite(x).all(axis=1)).sum())
        if missing:
            raise AdaptError(f"{missing:,} tiles have missing features: encode them again or leave them out.")
        out = np.empty(x.shape, dtype=np.float32)
        for b, name in enumerate(names):
            rows = codes == b
            out[rows] = self._apply(x[rows], self._by_batch[name])
        uns = dict(table.uns)
        uns["batchfx_correction"] = {"kind": self.kind, "batch": self.batch, **self._settings()}
        return anndata.AnnData(X=out, obs=table.obs.copy(), var=table.var.copy(), uns=uns)

    def apply_to(self, x: npt.ArrayLike, batch: str) -> NDArray[np.float64]:
        """Rows (n, d) corrected as tiles of that batch, in float64.

        Raises
        ------
        AdaptError
            If the batch has not been fitted.
        """
        self._check_fitted()
        if batch not in self._by_batch:
            raise AdaptError(f"{self.batch} {batch} was not there when the correction was fitted.")
        return self._apply(np.asarray(x, dtype=np.float64), self._by_batch[batch])

    def fit_transform(
        self,
        table: AnnData,
        batch: str = "site",
        controls: npt.ArrayLike | None = None,
        covariates: Sequence[str] = (),
    ) -> AnnData:
        """:meth:`fit`, then :meth:`transform` of the same table."""
        return self.fit(table, batch, controls, covariates).transform(table)

    def save(self, path: str | Path) -> Path:
        """Write the fitted correction as one safetensors file with a JSON header."""
        self._check_fitted()
        arrays = {f"pooled.{k}": v for k, v in self._pooled.items()}
        for i, state in enumerate(self._by_batch.values()):
            arrays |= {f"batch.{i}.{k}": v for k, v in state.items()}
        description = {
            "settings": self._settings(),
            "batch": self.batch,
            "batches": self.batches,
            "dim": self.dim,
            "encoder": self.encoder,
            "covariates": list(self.covariates),
            "notes": self._notes,
            "diagnostics": self.diagnostics,
            "warnings": self.warnings,
        }
        return write_state(path, self.kind, description, arrays)

    def _check_fitted(self) -> None:
        if not self._by_batch:
            raise AdaptError("The correction has not been fitted yet: call fit first.")

    def _check_table(self, table: AnnData) -> None:
        if table.n_vars != self.dim:
            raise AdaptError(
                f"The correction was fitted on vectors of {self.dim} numbers, this table has "
                f"{table.n_vars}: use the same encoder."
            )
        key = encoder_key(table)
        if key and self.encoder and key != self.encoder:
            raise AdaptError(
                f"The correction was fitted with the encoder {self.encoder}, this table comes from {key}."
            )


def control_mask(table: AnnData, controls: npt.ArrayLike | None) -> NDArray[np.bool_]:
    """Bool (n,) of the control samples; ``None`` takes ``obs["control"]``.

    Raises
    ------
    AdaptError
        If the mask has another length than the table.
    """
    if controls is None:
        if "control" not in table.obs:
            return np.zeros(table.n_obs, dtype=bool)
        return np.asarray(table.obs["control"].fillna(False).to_numpy(), dtype=bool)
    mask = np.asarray(controls, dtype=bool)
    if mask.shape != (table.n_obs,):
        raise AdaptError(f"The control mask has {mask.size:,} values for {table.n_obs:,} tiles.")
    return mask


def load(path: str | Path) -> Correction:
    """Read a correction that :meth:`Correction.save` wrote.

    Raises
    ------
    AdaptError
        If the file is missing, damaged or no correction.

    Examples
    --------
    >>> import anndata, numpy
    >>> from napari_batchfx.adapt import StandardizeOnControls
    >>> table = anndata.AnnData(numpy.random.default_rng(0).normal(size=(80, 3)).astype("float32"))
    >>> table.obs["site"], table.obs["control"] = numpy.repeat(["A", "B"], 40), True
    >>> path = StandardizeOnControls().fit(table, batch="site").save("correction.safetensors")
    >>> load(path).batches
    ['A', 'B']
    """
    kind, header, arrays = read_state(path)
    if kind not in Correction._kinds:
        raise AdaptError(f"{Path(path).name} holds {kind or 'something else'}, not a correction.")
    out = Correction._kinds[kind](**header["settings"])
    out.batch, out.batches, out.dim = header["batch"], list(header["batches"]), int(header["dim"])
    out.encoder, out.covariates = header["encoder"], tuple(header["covariates"])
    out.diagnostics, out.warnings = header["diagnostics"], list(header["warnings"])
    out._notes = header.get("notes", {})
    out._pooled = {k.removeprefix("pooled."): v for k, v in arrays.items() if k.startswith("pooled.")}
    for i, name in enumerate(out.batches):
        prefix = f"batch.{i}."
        out._by_batch[name] = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return out
