"""Classifiers made elsewhere, as ONNX files: features in, classes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.adapt.head import Prediction
from napari_batchfx.adapt.state import encoder_key
from napari_batchfx.errors import AdaptError
from napari_batchfx.probe.columns import feature_matrix

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ONNXHead"]

MOST_BYTES = 512 * 2**20
_CHUNK = 4096


class ONNXHead:
    """A head from an ONNX file: features (n, d) in, logits or probabilities (n, classes) out.

    The file is data: nothing of it is executed but ONNX's own operators. Files with operators of other
    domains, with
    weights in further files, or with several inputs are declined. Class names, encoder and whether the
    outputs are
    probabilities are read from the file's metadata (``classes``: a JSON list, ``encoder``, ``output``:
    "logits" or
    "probabilities") or given.

    Parameters
    ----------
    path : str or Path
    classes : sequence of str, optional
        In the order of the outputs.
    encoder : str, optional
        Key of the encoder that the features must be of.

    Raises
    ------
    AdaptError
        If onnxruntime isn't installed (extra ``onnx``), the file is no head, or it is declined.

    Examples
    --------
    >>> ONNXHead("missing.onnx")
    Traceback (most recent call last):
    ...
    napari_batchfx.errors.AdaptError: missing.onnx: no such file.
    """

    def __init__(self, path: str | Path, classes: list[str] | None = None, encoder: str = "") -> None:
        source = Path(path)
        if not source.is_file():
            raise AdaptError(f"{source.name}: no such file.")
        if source.stat().st_size > MOST_BYTES:
            raise AdaptError(
                f"{source.name} has more than 512 MB: a head on features is small; this is something else."
            )
        self.name = source.name
        self._session = _session(source)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            len(inputs) != 1
            or len(inputs[0].shape) != 2
            or inputs[0].type not in ("tensor(float)", "tensor(double)")
        ):
            raise AdaptError(
                f"{self.name} must have one input of feature vectors (n, d); it has {_shapes(inputs)}."
            )
        if not isinstance(inputs[0].shape[1], int):
            raise AdaptError(
                f"{self.name} doesn't say how long its vectors are: export it with a fixed width."
            )
        self._dtype = np.float64 if inputs[0].type == "tensor(double)" else np.float32
        self._input, self.dim = inputs[0].name, int(inputs[0].shape[1])
        known = self._session.get_modelmeta().custom_metadata_map
        self._output = next((o.name for o in outputs if len(o.shape) == 2), "")
        if not self._output:
            raise AdaptError(f"{self.name} has no output (n, classes); it has {_shapes(outputs)}.")
        n = self._run(np.zeros((1, self.dim))).shape[1]
        self.classes = tuple(
            classes or _names(known.get("classes", ""), self.name) or (f"class {i}" for i in range(n))
        )
        if len(self.classes) != n or n < 2:
            raise AdaptError(
                f"{self.name} has {n} outputs and {len(self.classes)} class names; they must be the same."
            )
        self.encoder = encoder or known.get("encoder", "")
        self._says = known.get("output", "")
        self.warnings: list[str] = []

    def predict(self, table: AnnData) -> Prediction:
        """Classes of the tiles of a table; tiles with missing features are left without.

        Raises
        ------
        AdaptError
            If the table comes from another encoder, or the output is no number.
        """
        key = encoder_key(table)
        if key and self.encoder and key != self.encoder:
            raise AdaptError(
                f"{self.name} takes features of {self.encoder}, this table holds those of {key}."
            )
        if table.n_vars != self.dim:
            raise AdaptError(
                f"{self.name} takes vectors of {self.dim} numbers, this table has {table.n_vars}: use the "
                "encoder it was made for."
            )
        self.warnings = [] if self.encoder else [f"{self.name} doesn't say which encoder it was made for."]
        x = feature_matrix(table)
        finite = np.isfinite(x).all(axis=1)
        proba = np.full((len(x), len(self.classes)), np.nan)
        if finite.any():
            proba[finite] = self._probabilities(self._run(x[finite]))
        return Prediction.from_proba(self.classes, proba)

    def _run(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(x), _CHUNK):
            rows = np.ascontiguousarray(x[start : start + _CHUNK], dtype=self._dtype)
            try:
                (out,) = self._session.run([self._output], {self._input: rows})
            except Exception as error:
                raise AdaptError(f"{self.name} can't be run ({_first(error)}).") from error
            if np.ndim(out) != 2 or len(out) != len(rows):
                raise AdaptError(
                    f"{self.name} gives {np.shape(out)} for {len(rows)} tiles, not a row for each."
                )
            parts.append(np.asarray(out, dtype=np.float64))
        return np.concatenate(parts)

    def _probabilities(self, out: NDArray[np.float64]) -> NDArray[np.float64]:
        from napari_batchfx.probe.logistic import softmax

        if not np.isfinite(out).all():
            raise AdaptError(f"{self.name} gives values that are no numbers.")
        sums_to_one = bool((out >= 0).all() and np.allclose(out.sum(axis=1), 1.0, atol=1e-3))
        if self._says == "probabilities" or (not self._says and sums_to_one):
            return np.asarray(out / out.sum(axis=1, keepdims=True))
        return np.asarray(softmax(out))


def _session(source: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise AdaptError("ONNX heads need onnxruntime: pip install 'napari-batchfx[onnx]'.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        # from memory: weights in other files can't be reached then
        return onnxruntime.InferenceSession(source.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise AdaptError(
            f"{source.name} is no ONNX file that can be read by itself ({_first(error)})."
        ) from error


def _first(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


def _shapes(values: Any) -> str:
    return ", ".join(f"{v.name} {tuple(v.shape)}" for v in values) or "none"


def _names(text: str, file: str) -> list[str]:
    if not text:
        return []
    try:
        names = json.loads(text)
    except ValueError as error:
        raise AdaptError(f"{file}: the class names in it can't be read.") from error
    if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
        raise AdaptError(f"{file}: the class names in it are no list of names.")
    return names
