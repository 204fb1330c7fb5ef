"""One way to load every kind of classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_batchfx.adapt.head import ERMHead
from napari_batchfx.adapt.heads.base import NeuralHead
from napari_batchfx.adapt.state import read_state
from napari_batchfx.errors import AdaptError

__all__ = ["load_head"]


def load_head(path: str | Path, encoder: str = "", model: Any = None) -> Any:
    """Read a classifier: a head on features, a whole network, a slide-level head, or an ONNX file.

    Parameters
    ----------
    path : str or Path
        ``.safetensors``, or ``.onnx`` (needs the extra ``onnx``).
    encoder : str, optional
        Key of the encoder whose features it is to take: a head made for another one is refused right away.
    model : torch.nn.Module, optional
        For a network that was not built by its timm name.

    Returns
    -------
    ERMHead, NeuralHead, AdaptiveNetwork, ScanGenMIL or ONNXHead

    Raises
    ------
    AdaptError
        If the file is missing, damaged or no head, or it was made for another encoder.

    Examples
    --------
    >>> import anndata, numpy, pandas
    >>> y = numpy.tile([0, 1], 40)
    >>> x = numpy.random.default_rng(0).normal(size=(80, 4)).astype("float32"); x[:, 0] += 5 * y
    >>> obs = pandas.DataFrame({"label": numpy.where(y, "tumour", "normal")})
    >>> obs["slide"] = (numpy.arange(80) // 20).astype(str)
    >>> obs.index = obs.index.astype(str)
    >>> table = anndata.AnnData(x, obs=obs)
    >>> head = ERMHead(c=1.0).fit(table)
    >>> path = head.save("head.safetensors")
    >>> bool((load_head(path).predict(table).label == head.predict(table).label).all())
    True
    """
    from napari_batchfx.adapt.heads._network_files import NETWORK_KIND
    from napari_batchfx.adapt.heads.network import AdaptiveNetwork
    from napari_batchfx.adapt.mil.scangen import ScanGenMIL

    if Path(path).suffix.lower() == ".onnx":
        from napari_batchfx.adapt.heads.onnx import ONNXHead

        return _checked(ONNXHead(path), path, encoder)
    kind, header, arrays = read_state(path)
    try:
        if kind == ERMHead.KIND:
            return _checked(ERMHead._restore(header, arrays), path, encoder)
        if kind in NeuralHead.kinds:
            return _checked(NeuralHead.kinds[kind]()._restore(header, arrays), path, encoder)
        if kind == ScanGenMIL.kind:
            return _checked(ScanGenMIL._restore(header, arrays), path, encoder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AdaptError(
            f"{Path(path).name} is damaged: part of the classifier is missing from it."
        ) from error
    if kind == NETWORK_KIND:
        return AdaptiveNetwork.load(path, model)
    raise AdaptError(f"{Path(path).name} holds {kind or 'something else'}, not a classifier.")


def _checked(head: Any, path: str | Path, encoder: str) -> Any:
    weights = getattr(head, "_weights", {})
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise AdaptError(f"{Path(path).name} is damaged: its weights hold values that are no numbers.")
    if encoder and head.encoder and encoder != head.encoder:
        raise AdaptError(
            f"{Path(path).name} was trained on features of {head.encoder}, these are of {encoder}: encode "
            "the slide with the encoder it was trained on, or load another classifier."
        )
    return head
