"""A classifier that takes the statistics of control samples and tiles of the slide it meets."""

from __future__ import annotations

from napari_batchfx.adapt.heads.base import NeuralHead

__all__ = ["CSARMBNHead"]


class CSARMBNHead(NeuralHead):
    """Steps of one domain each with control tiles of it, whose statistics anchor those of the targets.

    Sanchez-Fernandez et al. 2026, arXiv 2604.20824 (written from its equations). The loss is taken on
    targets only, and the mixture of
    classes of each step is drawn anew. At prediction two passes are made: statistics from controls and a
    random part of the tiles (2 to 1), then all tiles with those. With 16 to 63 controls the statistics are
    blended with those of the training, with fewer they aren't used; both are said in ``warnings``.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> from napari_batchfx.adapt import TrainingSettings
    >>> rng = numpy.random.default_rng(0); y = numpy.tile([0, 1], 320)
    >>> site = numpy.repeat(["A", "B", "C", "D"], 160)
    >>> x = rng.normal(size=(640, 6)); x[:, :3] += 3 * y[:, None]
    >>> x += 5 * rng.normal(size=(4, 6))[numpy.repeat(range(4), 160)]
    >>> obs = pandas.DataFrame({"label": numpy.where(y, "tumour", "normal"), "site": site})
    >>> obs["control"] = numpy.arange(640) // 2 % 2 == 0; obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x.astype("float32"), obs=obs)
    >>> seen, new = table[site != "D"].copy(), table[site == "D"].copy()
    >>> head = CSARMBNHead(TrainingSettings(steps=60, hidden=(32, 16))).fit(seen)
    >>> bool((head.predict(new).label == new.obs["label"].to_numpy()).mean() > 0.9)
    True
    """

    kind = "csarmbn-head"
    method = "csarmbn"
    episodic = True
    with_controls = True
    way = "mixed"
