"""The classifiers of a site probe, kept to score tiles that come later."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError
from napari_batchfx.probe.columns import category_codes
from napari_batchfx.probe.logistic import softmax
from napari_batchfx.probe.probes import LinearScorer, NeighbourScorer

if TYPE_CHECKING:
    from anndata import AnnData

    from napari_batchfx.probe.crossfit import CrossFit
    from napari_batchfx.probe.design import Design

__all__ = ["FittedProbe"]

FORMAT = 1
_KIND = "site-probe"


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """One classifier a fold, and which of them has not seen a patient, slide or place.

    Attributes
    ----------
    batches : tuple of str, length b
    batch, group : str
        What is recognised, and the column that was held out together.
    probe : str
        "logistic", "centroid", "knn" or "linear".
    scorers : tuple, length k
        Classifiers of the folds; fold ``i`` was not trained on its own tiles.
    temperatures : tuple of float, length k
    fold_of : dict of str to int
        Fold of each group.
    places : dict of str to (float64 (m, 2), int (m,))
        Positions and folds of the tiles of slides that were split by place.
    """

    batches: tuple[str, ...]
    batch: str
    group: str
    probe: str
    scorers: tuple[LinearScorer | NeighbourScorer, ...]
    temperatures: tuple[float, ...]
    fold_of: dict[str, int]
    places: dict[str, tuple[NDArray[np.float64], NDArray[np.intp]]]

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.scorers[0].mean)

    @classmethod
    def of(cls, table: AnnData, design: Design, fit: CrossFit, probe: str) -> Self:
        """What :func:`~napari_batchfx.probe.site_probe` fitted."""
        grouping = design.grouping
        column = grouping.kind.partition(";")[0]
        codes, names = category_codes(table, column)
        codes = codes[design.rows]
        whole = ~grouping.in_blocks & (codes >= 0)
        _, first = np.unique(codes[whole], return_index=True)
        rows = np.flatnonzero(whole)[first]
        fold_of = {names[codes[i]]: int(grouping.fold[i]) for i in rows}
        places = {}
        if design.yx is not None and grouping.in_blocks.any():
            slides, slide_names = category_codes(table, "slide")
            slides = slides[design.rows]
            for s in np.unique(slides[grouping.in_blocks]):
                mine = grouping.in_blocks & (slides == s)
                name = slide_names[s] if s >= 0 else ""
                places[name] = (design.yx[mine], grouping.fold[mine])
        return cls(
            tuple(design.batches),
            design.batch,
            column if fold_of else "slide",
            probe,
            tuple(fit.scorers),
            tuple(fit.temperature),
            fold_of,
            places,
        )

    def apply(
        self,
        features: NDArray[np.floating],
        groups: Sequence[str] | None = None,
        slides: Sequence[str] | None = None,
        yx: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float64]:
        """Probability of every batch, from the classifier that has not seen the tile's group.

        Parameters
        ----------
        features : float (n, d)
            Of the same encoder and tile size as the probe was fitted on.
        groups : sequence of str, length n, optional
            Value of the column :attr:`group` of each tile. A group that the probe has never met gets the mean
            over all classifiers.
        slides : sequence of str, length n, optional
            Needed, with ``yx``, for slides that were split by place; the classifier is that of the nearest
            tile.
        yx : float (n, 2), optional
            Positions, in the unit of the table's.

        Returns
        -------
        float64 (n, b)
            NaN where features are missing, or where a slide was split by place and no place is given: every
            classifier has seen a part of it.

        Raises
        ------
        ProbeError
            If the number of features or of names is another, or groups are needed and not given.

        Examples
        --------
        >>> import anndata, numpy, pandas
        >>> from napari_batchfx.probe import site_probe
        >>> slide = numpy.repeat(numpy.arange(8), 20)
        >>> obs = pandas.DataFrame({"slide": slide.astype(str), "site": numpy.where(slide % 2, "A", "B")})
        >>> obs.index = obs.index.astype(str)
        >>> x = numpy.random.default_rng(0).normal(size=(160, 5)).astype("float32")
        >>> x[:, 0] += 4 * (slide % 2)
        >>> result = site_probe(anndata.AnnData(x, obs=obs), permutations=0)
        >>> again = result.fitted.apply(x, obs["slide"])
        >>> bool(numpy.allclose(again, result.proba, atol=1e-5))
        True
        """
        x = np.asarray(features, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ProbeError(
                f"The probe was fitted on {self.dim} features a tile, these have "
                f"{x.shape[-1] if x.ndim else 0}: encode them with the same encoder."
            )
        fold = self._folds(len(x), groups, slides, yx)
        fine = np.isfinite(x).all(axis=1)
        out = np.full((len(x), len(self.batches)), np.nan)
        unseen = fine & (fold == -1)
        if unseen.any():
            out[unseen] = 0.0
        for k, (scorer, temperature) in enumerate(zip(self.scorers, self.temperatures, strict=True)):
            own = fine & (fold == k)
            if own.any():
                out[own] = softmax(scorer.logits(x[own]) / temperature)
            if unseen.any():
                out[unseen] += softmax(scorer.logits(x[unseen]) / temperature) / len(self.scorers)
        return out

    def _folds(
        self,
        n: int,
        groups: Sequence[str] | None,
        slides: Sequence[str] | None,
        yx: NDArray[np.floating] | None,
    ) -> NDArray[np.intp]:
        """Fold of each tile; -1 = no classifier has seen it, -2 = all have."""
        fold = np.full(n, -1, dtype=np.intp)
        if groups is None and self.fold_of:
            raise ProbeError(
                f"Give the {self.group} of each tile: a classifier must not score those it learned."
            )
        if slides is None and self.places:
            slides = groups if groups is not None and self.group == "slide" else [""] * n
        for given in (groups, slides, yx):
            if given is not None and len(given) != n:
                raise ProbeError(f"{n:,} tiles, but {len(given):,} values of a column: one each is needed.")
        if groups is not None and self.fold_of:
            fold = np.array([self.fold_of.get(str(g).strip(), -1) for g in groups], dtype=np.intp).reshape(n)
        if self.places and slides is not None:
            from scipy.spatial import cKDTree

            names = np.array([str(s).strip() for s in slides], dtype=object)
            for name, (known, folds) in self.places.items():
                mine = names == name
                if not mine.any():
                    continue
                fold[mine] = -2
                if yx is not None:
                    at = np.asarray(yx, dtype=np.float64)[mine]
                    placed = np.isfinite(at).all(axis=1)
                    near = cKDTree(known).query(np.where(placed[:, None], at, 0.0))[1]
                    fold[mine] = np.where(placed, folds[near], -2)
        return fold

    def save(self, path: str | Path) -> Path:
        """Write the probe as one safetensors file with a JSON header; whole or not at all."""
        from safetensors.numpy import save

        target = Path(path)
        if target.suffix != ".safetensors":
            target = target.with_name(target.name + ".safetensors")
        arrays: dict[str, NDArray[Any]] = {}
        for k, scorer in enumerate(self.scorers):
            arrays |= {f"{k}.{name}": np.ascontiguousarray(value) for name, value in scorer.arrays().items()}
        for i, (known, folds) in enumerate(self.places.values()):
            arrays[f"place{i}.yx"] = np.ascontiguousarray(known)
            arrays[f"place{i}.fold"] = np.ascontiguousarray(folds, dtype=np.int64)
        header = {
            "format": FORMAT,
            "kind": _KIND,
            "batches": list(self.batches),
            "batch": self.batch,
            "group": self.group,
            "probe": self.probe,
            "temperatures": list(self.temperatures),
            "fold_of": self.fold_of,
            "places": list(self.places),
        }
        data = save(arrays, metadata={"napari-batchfx": json.dumps(header, allow_nan=False)})
        part = target.with_name(target.name + ".part")
        try:
            part.write_bytes(data)
            os.replace(part, target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ProbeError(f"{target.name} can't be written: {error.strerror or error}.") from error
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ProbeError
            If there is no such file, or it is damaged, something else, or of another version.
        """
        from safetensors import SafetensorError, safe_open

        source = Path(path)
        if not source.is_file():
            raise ProbeError(f"{source.name}: no such file.")
        try:
            with safe_open(str(source), framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get("napari-batchfx", "{}"))
                arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, ValueError, OSError) as error:
            raise ProbeError(f"{source.name} is damaged or not a safetensors file.") from error
        if header.get("kind") != _KIND:
            raise ProbeError(f"{source.name} holds no site probe.")
        if header.get("format") != FORMAT:
            raise ProbeError(f"{source.name} was saved by another version of napari-batchfx: update it.")
        try:
            return cls(
                tuple(header["batches"]),
                header["batch"],
                header["group"],
                header["probe"],
                tuple(_scorer(arrays, k, header) for k in range(len(header["temperatures"]))),
                tuple(header["temperatures"]),
                {str(name): int(fold) for name, fold in header["fold_of"].items()},
                {
                    name: (arrays[f"place{i}.yx"], arrays[f"place{i}.fold"].astype(np.intp))
                    for i, name in enumerate(header["places"])
                },
            )
        except KeyError as error:
            raise ProbeError(f"{source.name} is damaged: {error.args[0]} is missing.") from error


def _scorer(
    arrays: dict[str, NDArray[Any]], k: int, header: dict[str, Any]
) -> LinearScorer | NeighbourScorer:
    mean = arrays[f"{k}.mean"]
    if header["probe"] != "knn":
        return LinearScorer(mean, arrays[f"{k}.coef"], arrays[f"{k}.intercept"])
    y = arrays[f"{k}.y"].astype(np.intp)
    return NeighbourScorer(mean, arrays[f"{k}.rows"], y, arrays[f"{k}.weight"], len(header["batches"]))
