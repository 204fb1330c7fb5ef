"""A classifier that is trained not to know the domain."""

from __future__ import annotations

from napari_batchfx.adapt.heads.base import NeuralHead

__all__ = ["DANNHead"]


class DANNHead(NeuralHead):
    """Domain-adversarial training: the hidden features are to say the class and not the domain.

    Ganin et al. 2016, JMLR 17 (59). A gradient reversal, its weight rising over the training. It aligns the
    domains of the training and doesn't adapt to a new one: a baseline.

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
    >>> head = DANNHead(TrainingSettings(steps=60, hidden=(32, 16))).fit(seen)
    >>> head.predict(new).classes
    ('normal', 'tumour')
    """

    kind = "dann-head"
    method = "dann"
    episodic = False
    with_controls = False
    way = "source"
