"""The classifier that a checkpoint carried, kept so that its own answers stay available."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_batchfx.errors import EncoderError

__all__ = ["ClassifierHead"]


@dataclass(frozen=True)
class ClassifierHead:
    """The last, linear layer of a user's classifier.

    Parameters
    ----------
    weight : float32 array (k, dim)
        One row a class.
    bias : float32 array (k,)
        Zeros where the checkpoint has none.
    class_names : tuple of str
        ``"class 0"``, ``"class 1"``, ... where the checkpoint names none.

    Examples
    --------
    >>> head = ClassifierHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), ("tumour", "stroma"))
    >>> head.class_names[int(head.logits(np.array([[0.1, 2.0]])).argmax())]
    'stroma'
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    class_names: tuple[str, ...]

    def logits(self, features: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scores (n, k) of features (n, dim), as the checkpoint's own model gives them."""
        values = np.asarray(features, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != self.weight.shape[1]:
            raise EncoderError(
                f"The classifier takes vectors of {self.weight.shape[1]} numbers, an array (n, "
                f"{self.weight.shape[1]}); got {values.shape}."
            )
        result: npt.NDArray[np.float32] = values @ self.weight.T + self.bias
        return result

    def probabilities(self, features: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Softmax of :meth:`logits`, (n, k); rows sum to one."""
        scores = self.logits(features)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float32] = scores / scores.sum(axis=1, keepdims=True)
        return result
