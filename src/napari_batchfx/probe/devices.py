"""Where the probe's logistic regressions are fitted: numpy on the CPU, or torch tensors on a GPU.

scikit-learn's ``LogisticRegression`` (lbfgs) takes torch tensors as they are, on their device, where its
array API dispatch is on. scipy reads the flag for it once, when it is first imported: ``SCIPY_ARRAY_API=1``
has to be set before the program starts (the command line does so where a GPU is asked for or found).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_batchfx.errors import ProbeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FLAG", "TorchRows", "allow_gpu", "fit_device"]

FLAG: Final = "SCIPY_ARRAY_API"
_WORTH_A_GPU = 5_000_000  # numbers; below, the CPU is done before a GPU has begun
_ROWS = 8_192


def allow_gpu(device: str) -> None:
    """Set the flag that scipy reads, for a program that has not imported it yet; for the command line.

    Parameters
    ----------
    device : str
        "cpu" sets nothing, "auto" only where there seems to be an Nvidia GPU.
    """
    wanted = device not in ("auto", "cpu") or (device == "auto" and shutil.which("nvidia-smi") is not None)
    if wanted and "scipy" not in sys.modules:
        os.environ.setdefault(FLAG, "1")


def fit_device(device: str, size: int = 0) -> str | None:
    """The torch device to fit on; ``None`` for numpy on the CPU.

    Parameters
    ----------
    device : str
        "cpu"; "cuda", "cuda:1", "mps"; "torch:cpu" (the same path without a GPU, for tests); "auto" takes
        an Nvidia GPU where there is one, the flag is set and there is much to do, and the CPU otherwise.
    size : int
        Numbers in the features.

    Raises
    ------
    ProbeError
        If a device is asked for that this program can't use, with the reason.

    Examples
    --------
    >>> fit_device("cpu") is None, fit_device("auto", 100) is None
    (True, True)
    """
    if device == "cpu" or (device == "auto" and size < _WORTH_A_GPU):
        return None
    why_not = _why_not()
    if device == "auto":
        return None if why_not or not _has("cuda") else "cuda"
    kind, _, rest = device.partition(":")
    if device != "torch:cpu" and (kind not in ("cuda", "mps") or (rest and not rest.isdigit())):
        raise ProbeError(f"There is no device {device}; choose auto, cpu, cuda or mps.")
    if why_not:
        raise ProbeError(f"Site probe: the device {device} can't be used: {why_not}; or take the device cpu.")
    if device == "torch:cpu":
        return "cpu"
    if not _has(kind):
        raise ProbeError(f"Site probe: torch finds no {kind} device here; take the device cpu.")
    return device


def _why_not() -> str:
    """Why fits can't be on torch tensors in this program; empty where they can."""
    if importlib.util.find_spec("torch") is None:
        return "torch isn't installed"
    if os.environ.get(FLAG) != "1" or not _scipy_knows():
        return f"set {FLAG}=1 before the program is started"
    from sklearn.linear_model import LogisticRegression

    tags = getattr(LogisticRegression(solver="lbfgs"), "__sklearn_tags__", None)
    if tags is None or not getattr(tags(), "array_api_support", False):
        return "this scikit-learn fits on the CPU alone; update it to 1.9"
    return ""


def _scipy_knows() -> bool:
    """Whether scipy was imported with the flag set; it doesn't say so in public."""
    import scipy._lib._array_api as known

    return bool(getattr(known, FLAG, False))


def _has(kind: str) -> bool:
    import torch

    return bool(torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available())


@dataclass(frozen=True)
class TorchRows:
    """Rows of features (n, d) on a device, taken by numpy's row numbers or masks."""

    tensor: Tensor

    @classmethod
    def put(cls, x: NDArray[np.float32], device: str) -> TorchRows:
        """Features on a device."""
        import torch

        return cls(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(device))

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    def __getitem__(self, rows: NDArray[Any]) -> TorchRows:
        return TorchRows(self.tensor[self.beside(np.flatnonzero(rows) if rows.dtype == bool else rows)])

    def beside(self, values: NDArray[Any]) -> Tensor:
        """Values of the rows on the same device: whole numbers as int64, others as float32."""
        import torch

        kind = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
        return torch.from_numpy(np.ascontiguousarray(values, dtype=kind)).to(self.tensor.device)

    def moments(self, share: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weighted mean and standard deviation (d,), summed in float64 where the device has it."""
        import torch

        x = self.tensor
        exact = torch.float32 if x.device.type == "mps" else torch.float64
        weight = torch.from_numpy(np.ascontiguousarray(share)).to(exact).to(x.device)
        mean = torch.zeros(x.shape[1], dtype=exact, device=x.device)
        variance = torch.zeros_like(mean)
        for i in range(0, len(x), _ROWS):
            mean += weight[i : i + _ROWS] @ x[i : i + _ROWS].to(exact)
        for i in range(0, len(x), _ROWS):
            variance += weight[i : i + _ROWS] @ (x[i : i + _ROWS].to(exact) - mean).square_()
        found = (mean.cpu().numpy(), variance.sqrt().cpu().numpy())
        return found[0].astype(np.float64), found[1].astype(np.float64)

    def standardise(self, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> TorchRows:
        """The same rows standardised, in place."""
        self.tensor.sub_(self.beside(mean)).div_(self.beside(scale))
        return self

    def logits(
        self, mean: NDArray[np.float32], coef: NDArray[np.float32], intercept: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """``(x - mean) @ coef + intercept`` (n, b), in blocks."""
        centre, weights, start = (self.beside(one) for one in (mean, coef, intercept))
        out = np.empty((len(self), coef.shape[1]))
        for i in range(0, len(self), _ROWS):
            block = (self.tensor[i : i + _ROWS] - centre) @ weights + start
            out[i : i + _ROWS] = block.cpu().numpy()
        return out
