"""What the trained heads share: a small network on frozen features, and whose statistics it uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from napari_batchfx.adapt.correction import control_mask
from napari_batchfx.adapt.head import Prediction
from napari_batchfx.adapt.heads import layers
from napari_batchfx.adapt.heads.network import context_rows
from napari_batchfx.adapt.heads.settings import TrainingPoint, TrainingSettings
from napari_batchfx.adapt.heads.statistics import Statistics
from napari_batchfx.adapt.heads.ways import DomainContext, Ways
from napari_batchfx.adapt.reference import CompactReference
from napari_batchfx.adapt.state import encoder_key, write_state
from napari_batchfx.errors import AdaptError
from napari_batchfx.jobs import Job, run
from napari_batchfx.probe.columns import category_codes, feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["NeuralHead"]


class NeuralHead:
    """Base of the heads that are trained by gradient steps; not used by itself.

    ``x -> norm -> linear 512 -> norm -> ReLU -> dropout -> linear 128 -> norm -> ReLU -> linear -> classes``

    Parameters
    ----------
    settings : TrainingSettings, optional
    seed : int, optional
        Instead of the one in ``settings``.

    Attributes
    ----------
    classes : tuple of str
    encoder : str
        Key of the encoder it was trained on; "" if the table didn't say.
    batch : str
        Column of the domains.
    curve : list of TrainingPoint
        Loss and validation loss over the training.
    provenance : dict
        Tiles of each class, domains, controls, and how it was validated.
    reference : CompactReference or None
        What the training tiles looked like, for judging a slide that comes later.
    warnings : list of str
    """

    #: Every kind of head by the name it has in a file.
    kinds: ClassVar[dict[str, type[NeuralHead]]] = {}
    kind: ClassVar[str]
    method: ClassVar[str]
    #: Whether a training step holds one domain, and whether controls of it.
    episodic: ClassVar[bool] = False
    with_controls: ClassVar[bool] = False
    #: Where the statistics of a new domain come from: source, targets, mixed.
    way: ClassVar[str] = "source"
    #: Most target tiles in the statistics of a domain.
    context: ClassVar[int] = 1024

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        NeuralHead.kinds[cls.kind] = cls

    def __init__(self, settings: TrainingSettings | None = None, seed: int | None = None) -> None:
        from dataclasses import replace

        chosen = settings or TrainingSettings()
        self.settings = chosen if seed is None else replace(chosen, seed=seed)
        self.classes: tuple[str, ...] = ()
        self.encoder = ""
        self.batch = "site"
        self.curve: list[TrainingPoint] = []
        self.provenance: dict[str, Any] = {}
        self.reference: CompactReference | None = None
        self.warnings: list[str] = []
        self._weights: layers.HeadWeights = {}
        self._source: list[Statistics] = []

    @property
    def dim(self) -> int:
        """Length of the vectors it takes."""
        return len(self._weights["w0"]) if self._weights else 0

    def fit(
        self,
        table: AnnData,
        label: str = "label",
        batch: str = "site",
        controls: npt.ArrayLike | None = None,
        group: str = "patient",
    ) -> Self:
        """Train to the end; see :meth:`fit_job`."""
        run(self.fit_job(table, label, batch, controls, group))
        return self

    def fit_job(
        self,
        table: AnnData,
        label: str = "label",
        batch: str = "site",
        controls: npt.ArrayLike | None = None,
        group: str = "patient",
    ) -> Job[Self]:
        """Train, yielding after every step; ``partial`` is a :class:`TrainingPoint` now and then.

        Closed early, the head keeps the weights of the best validation so far.

        Parameters
        ----------
        table : anndata.AnnData
            Training tiles and their controls only.
        label, batch, group : str
            Columns of the class, of the domain, and of what validation holds out together.
        controls : bool (n,), optional
            Default ``obs["control"]``. They may carry a class: then they serve as targets too, in other
            steps.

        Raises
        ------
        AdaptError
            With fewer than two classes of 5 tiles, or a domain without the controls that the method needs.
        """
        from napari_batchfx.adapt.heads._data import TrainingData
        from napari_batchfx.adapt.heads._training import train_head

        data = TrainingData.of(table, label, batch, controls, group, self.settings.seed)
        self.warnings = list(data.warnings)
        self.classes, self.encoder, self.batch, self.curve = data.classes, encoder_key(table), batch, []
        # before the training: a head whose training is ended early has them too
        self.provenance = data.facts()
        self.reference = CompactReference.of(table, batch, seed=self.settings.seed)
        yield from train_head(self, data)
        return self

    def predict(
        self,
        table: AnnData,
        batch: str | None = None,
        controls: npt.ArrayLike | None = None,
        *,
        context: int | None = None,
        seed: int = 0,
    ) -> Prediction:
        """Classes of the tiles of a table, as the method was made for; no label of the table is read.

        Parameters
        ----------
        table : anndata.AnnData
        batch : str, optional
            Column of the domains; the one of the training by default. Tiles without a value there are
            predicted
            without adaptation.
        controls : bool (n,), optional
            Default ``obs["control"]``.
        context : int, optional
            Most target tiles of a domain that take part in its statistics.
        seed : int
            Of the choice of those tiles.

        Raises
        ------
        AdaptError
            If the head is not trained, or the table comes from another encoder.
        """
        found, _, warnings = self._predict(table, batch, controls, self.way, context, seed)
        self.warnings = warnings
        return found

    def predict_ways(
        self,
        table: AnnData,
        batch: str | None = None,
        controls: npt.ArrayLike | None = None,
        *,
        context: int | None = None,
        seed: int = 0,
    ) -> Ways:
        """The same tiles with statistics of the training, of the controls, and of controls and tiles."""
        source, _, _ = self._predict(table, batch, controls, "source", context, seed)
        only, _, _ = self._predict(table, batch, controls, "controls", context, seed)
        mixed, contexts, warnings = self._predict(table, batch, controls, "mixed", context, seed)
        return Ways(source, only, mixed, contexts, warnings)

    def save(self, path: str | Path) -> Path:
        """Write the head as one safetensors file with a JSON header."""
        self._check_trained()
        arrays: dict[str, NDArray[Any]] = dict(self._weights)
        for i, one in enumerate(self._source):
            arrays |= {f"mean{i}": one.mean, f"var{i}": one.var}
        description = {
            "classes": list(self.classes),
            "encoder": self.encoder,
            "dim": self.dim,
            "batch": self.batch,
            "preprocessing": "none: the first normalisation standardises the features",
            "settings": self.settings.facts(),
            "provenance": self.provenance,
            "n_source": self._source[0].n,
            "curve": [[p.step, p.loss, p.validation, p.best] for p in self.curve],
            "warnings": self.warnings,
        }
        if self.reference is not None:
            facts, own = self.reference.to_state()
            description["reference"] = facts
            arrays |= own
        return write_state(path, self.kind, description, arrays)

    def _restore(self, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Fill a new head from a file's header and arrays."""
        settings = dict(header["settings"])
        settings["hidden"] = tuple(settings["hidden"])
        self.settings = TrainingSettings(**settings)
        self.classes, self.encoder, self.batch = tuple(header["classes"]), header["encoder"], header["batch"]
        self.provenance, self.warnings = header["provenance"], list(header["warnings"])
        self.curve = [TrainingPoint(int(p[0]), *p[1:]) for p in header["curve"]]
        names = [f"{a}{i}" for i in (0, 1) for a in "wbgc"] + ["w2", "b2", "centre", "scale"]
        self._weights = {name: np.asarray(arrays[name], dtype=np.float64) for name in names}
        n = int(header["n_source"])
        self._source = [Statistics(arrays[f"mean{i}"], arrays[f"var{i}"], n) for i in range(layers.N_NORMS)]
        if "reference" in header:
            self.reference = CompactReference.from_state(header["reference"], arrays)
        return self

    def _adopt(self, weights: layers.HeadWeights, source: Sequence[Statistics]) -> None:
        self._weights, self._source = weights, list(source)

    def _check_trained(self) -> None:
        if not self._weights:
            raise AdaptError("The classifier has not been trained yet: train it or load one.")

    def _check_table(self, table: AnnData) -> None:
        self._check_trained()
        key = encoder_key(table)
        if key and self.encoder and key != self.encoder:
            raise AdaptError(
                f"The classifier was trained on features of {self.encoder}, this table holds those of {key}."
            )
        if table.n_vars != self.dim:
            raise AdaptError(
                f"The classifier takes vectors of {self.dim} numbers, this table has {table.n_vars}: use "
                "the encoder it was trained on."
            )

    def _predict(
        self,
        table: AnnData,
        batch: str | None,
        controls: npt.ArrayLike | None,
        way: str,
        context: int | None,
        seed: int,
    ) -> tuple[Prediction, list[DomainContext], list[str]]:
        from napari_batchfx.probe.logistic import softmax

        self._check_table(table)
        column = batch or self.batch
        x = feature_matrix(table)
        finite = np.isfinite(x).all(axis=1)
        codes, names = category_codes(table, column)
        mask = control_mask(table, controls)
        proba = np.full((len(x), len(self.classes)), np.nan)
        contexts, warnings = [], []
        lost = int((~finite).sum())
        if lost:
            warnings.append(f"{lost:,} tiles have missing features and are not predicted.")
        for code in np.unique(codes[finite]):
            rows = np.flatnonzero((codes == code) & finite)
            name = names[code] if code >= 0 else ""
            statistics, n_controls, n_targets, weight = self._source, 0, 0, 0.0
            if code < 0 and way != "source":
                warnings.append(f"{len(rows):,} tiles have no {column} and are predicted without adaptation.")
            elif way != "source":
                most = self.context if context is None else context
                chosen, weight, note = context_rows(x[rows], mask[rows], way, most, seed)
                if note:
                    warnings.append(f"{column} {name}: {note}")
                if len(chosen):
                    found = layers.context_statistics(self._weights, x[rows[chosen]])
                    statistics = layers.blended(found, self._source, weight)
                    n_controls = int(mask[rows[chosen]].sum()) if way != "targets" else 0
                    n_targets = len(chosen) - n_controls
            contexts.append(DomainContext(name, n_controls, n_targets, weight))
            proba[rows] = softmax(layers.forward(self._weights, x[rows], statistics))
        return Prediction.from_proba(self.classes, proba), contexts, warnings
