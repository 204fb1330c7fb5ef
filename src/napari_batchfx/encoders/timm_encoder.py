"""A timm model (or one with its interface) as an encoder: resize, normalise, run, assemble the vector."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.encoders.base import Encoder, EncoderMemoryError
from napari_batchfx.errors import EncoderError

__all__ = ["ASSEMBLIES", "TimmEncoder"]

ASSEMBLIES = ("pooled", "cls", "cls+mean", "mean")


class TimmEncoder(Encoder):
    """A timm model that turns tiles into vectors.

    Made by :func:`napari_batchfx.encoders.load`.

    Parameters
    ----------
    model : torch.nn.Module
        timm model without a classifier, in evaluation mode.
    identity : str
        Where the weights come from: hub id or file name.
    weights_hash : str
        SHA-256 of the weights.
    data_config : dict
        What ``timm.data.resolve_model_data_config`` says: input_size, interpolation, mean, std.
    assembly : {"pooled", "cls", "cls+mean", "mean"}
        The model's own pooling; class token; class token and mean of the patch tokens; mean of the patch
        tokens. Register tokens are left out.
    device, precision : str
        Resolved ("cpu", "cuda:0", "mps"; "fp32", "fp16", "bf16").
    threads : int or None
        CPU threads for torch, or None to leave its setting alone.
    kind : {"timm", "transformers"}
        Which library built it.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        identity: str,
        weights_hash: str,
        data_config: dict[str, Any],
        assembly: str,
        device: str,
        precision: str,
        mpp: float,
        licence: str,
        is_random: bool = False,
        threads: int | None = None,
        kind: str = "timm",
    ) -> None:
        super().__init__()
        _, height, width = data_config["input_size"]
        if height != width:
            raise EncoderError(
                f"{name}: takes images of {width} x {height} px; only models with square input can be used "
                "on tiles."
            )
        self.name, self.kind = name, kind
        self.input_px, self.mpp = int(height), float(mpp)
        self.mean = _three(data_config["mean"])
        self.std = _three(data_config["std"])
        self.interpolation = (
            data_config["interpolation"]
            if data_config["interpolation"] in ("bicubic", "bilinear")
            else "bicubic"
        )
        self.licence, self.assembly = licence, assembly
        self.device, self.precision, self.is_random = device, precision, is_random
        self._threads = threads
        self._model = model.to(device)
        self.dim = self._measure()
        built = getattr(model, "model", model) if kind == "transformers" else model
        setup = json.dumps(
            [self.input_px, self.mean, self.std, self.interpolation, str(built.__class__.__name__)]
        )
        config_hash = hashlib.sha256(setup.encode()).hexdigest()[:8]
        weights = f"random:{weights_hash[:16]}" if is_random else f"sha256:{weights_hash[:32]}"
        self.key = f"{kind}/{identity}/{weights}/{precision}/{assembly}/{config_hash}"

    def _measure(self) -> int:
        """Length of the vector, from one blank tile; also shows that model and assembly fit together."""
        blank = np.full((1, self.input_px, self.input_px, 3), 255, np.uint8)
        return int(self._embed(blank).shape[1])

    def _embed(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        import torch

        if self._threads is not None and self.device == "cpu" and torch.get_num_threads() != self._threads:
            # a thread of its own has a setting of its own, so it is made where the model runs
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                batch = self._prepare(tiles)
                features = self._forward(batch, self.precision)
                if self.precision == "fp16" and not bool(torch.isfinite(features).all()):
                    # some models overflow half precision on a few tiles; the right numbers matter more than
                    # the speed
                    features = self._forward(batch, "fp32")
                    note = f"{self.name}: fp16 overflowed on some tiles; those ran in full precision."
                    if note not in self.warnings:
                        self.warnings.append(note)
                result: npt.NDArray[np.float32] = features.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise self._too_large(len(tiles)) from error
        except RuntimeError as error:
            # torch has no class of its own for a full main memory
            if (
                "can't allocate memory" in str(error)
                or "not enough memory" in str(error)
                or "out of memory" in str(error)
            ):
                raise self._too_large(len(tiles)) from error
            raise EncoderError(
                f"{self.name}: the model failed on a batch of {len(tiles)} tiles: {_first_line(error)}."
            ) from error
        if not np.isfinite(result).all():
            raise EncoderError(
                f"{self.name}: the model gave numbers that are not finite; its weights are damaged or "
                f"{self.precision} overflows."
            )
        return result

    def _too_large(self, n: int) -> EncoderMemoryError:
        return EncoderMemoryError(
            f"{self.name}: not enough memory on {self.device} for {n} tiles at once; use smaller batches, a "
            "smaller model, or close what else uses it."
        )

    def _prepare(self, tiles: npt.NDArray[np.uint8]) -> Any:
        """Normalised float batch (n, 3, px, px) on the device."""
        import torch
        from torch.nn.functional import interpolate

        batch = (
            torch.from_numpy(np.ascontiguousarray(tiles))
            .to(self.device)
            .permute(0, 3, 1, 2)
            .to(torch.float32)
        )
        if batch.shape[-2:] != (self.input_px, self.input_px):
            size = (self.input_px, self.input_px)
            # rounded to grey levels, as the image libraries that the models were trained with do
            batch = (
                interpolate(batch, size, mode=self.interpolation, antialias=True, align_corners=False)
                .round_()
                .clamp_(0, 255)
            )
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1)
        return (batch / 255 - mean) / std

    def _forward(self, batch: Any, precision: str) -> Any:
        import torch

        types = {"fp16": torch.float16, "bf16": torch.bfloat16}
        kind = self.device.split(":")[0]
        context: Any = torch.autocast(kind, dtype=types[precision]) if precision in types else nullcontext()
        with context:
            if self.assembly == "pooled":
                features = self._model(batch)
                if features.ndim != 2:
                    raise EncoderError(
                        f"{self.name}: the model gives {features.ndim - 1}-dimensional features and no "
                        'vector; load it with assembly="cls" or "mean".'
                    )
                return features
            tokens = self._model.forward_features(batch)
        if tokens.ndim != 3 or not hasattr(self._model, "num_prefix_tokens"):
            raise EncoderError(
                f'{self.name}: has no tokens to take "{self.assembly}" from; load it with assembly="pooled".'
            )
        tokens = tokens.float()
        prefix = int(self._model.num_prefix_tokens)
        if self.assembly != "mean" and not getattr(self._model, "has_class_token", prefix > 0):
            raise EncoderError(f'{self.name}: has no class token; load it with assembly="mean" or "pooled".')
        mean = tokens[:, prefix:].mean(1)
        if self.assembly == "mean":
            return mean
        return tokens[:, 0] if self.assembly == "cls" else torch.cat([tokens[:, 0], mean], 1)

    def close(self) -> None:
        """Free the model's memory."""
        with self._lock:
            super().close()
            self._model = None
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
