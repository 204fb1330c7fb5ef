"""A timm model (or one with its interface) as an encoder: resize, normalise, run, assemble the vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_batchfx.encoders.base import Encoder, EncoderMemoryError
from napari_batchfx.encoders.folding import fold_batch_norm
from napari_batchfx.encoders.lanes import Lanes, own_torch_threads
from napari_batchfx.encoders.model_input import ModelInput
from napari_batchfx.encoders.precision import candidates, check_precision, tissue_like
from napari_batchfx.errors import EncoderError

__all__ = ["ASSEMBLIES", "TimmEncoder"]

ASSEMBLIES = ("pooled", "cls", "cls+mean", "mean")
#: Tiles that a CPU's lane gives to the model at once. More is no faster (activations leave the cache), and up
#: to here oneDNN chose the same kernels for every number: a vector is the same to the bit in any batch.
CPU_PIECE = 8
#: Parameters from which all cores work on one batch: one core alone would take too long a tile to stop for.
LARGE = 60e6
#: Batches that run at once on a CPU at most.
LANES = 32
Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
#: Parameters from which bf16 is worth a check on a CPU.
WORTH_ROUNDING = 15e6


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
    device : str
        Resolved ("cpu", "cuda:0", "mps").
    precision : {"auto", "fp32", "fp16", "bf16"}
        "auto" takes a reduced precision where it is fast and changes no vector noticeably
        (:mod:`~napari_batchfx.encoders.precision`).
    threads : int or None
        CPU threads, or None for as many as torch would use.
    compile : bool
        Whether to run the model through ``torch.compile``; where that fails it runs as it is, with a note.
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
        compile: bool = False,
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
        self.device, self.is_random = device, is_random
        self.precision = "fp32" if precision == "auto" else precision
        self._threads = threads
        self._size = sum(p.numel() for p in model.parameters())
        self._input = ModelInput(self.input_px, self.mean, self.std, self.interpolation, device)
        self._model = model.to(device)
        if device == "cpu":
            self.most_at_once = CPU_PIECE
        if _is_convolutional(model):
            self._suit_convolutions()
        self.dim = self._measure()
        built = getattr(model, "model", model) if kind == "transformers" else model
        setup = json.dumps(
            [self.input_px, self.mean, self.std, self.interpolation, str(built.__class__.__name__)]
        )
        config_hash = hashlib.sha256(setup.encode()).hexdigest()[:8]
        weights = f"random:{weights_hash[:16]}" if is_random else f"sha256:{weights_hash[:32]}"
        self._settle_precision(precision, f"{kind}/{identity}/{weights}/{assembly}/{config_hash}")
        self.key = f"{kind}/{identity}/{weights}/{self.precision}/{assembly}/{config_hash}"
        if device == "cpu" and self.precision != "fp32":
            self.least_at_once = 2
        if compile:
            self._compile()

    def _suit_convolutions(self) -> None:
        """Channels innermost; on a CPU the batch normalisation goes into the convolutions, too."""
        import torch

        self._model = self._model.to(memory_format=torch.channels_last)
        if self.device == "cpu" and self.assembly == "pooled":
            with suppress(
                RuntimeError, TypeError
            ):  # what doesn't run says so when its first tile goes through
                self._model = fold_batch_norm(self._model, self._input.batch(tissue_like(2, self.input_px)))

    def _settle_precision(self, asked: str, identity: str) -> None:
        """Choose the precision where it is left to us; say where the one that was asked for changes much."""
        if asked == "auto":
            tries = candidates(self.device, is_large=self._size > WORTH_ROUNDING)
        else:
            tries = () if asked == "fp32" else (asked,)
        if not tries:
            return
        n = 4 if self._size > LARGE and self.device == "cpu" else 12
        check = check_precision(self._run_whole, n, self.input_px, self.name, identity, self.device, tries)
        self.precision_check = check
        if asked == "auto":
            self.precision = check.chosen
            if check.note:
                self.warnings.append(check.note)
        elif not check.is_close:
            self.warnings.append(
                f"{self.name}: {asked} changes its vectors (cosine {check.worst:.4f} with full precision on "
                f"the worst of {check.n} test tiles); fp32 doesn't."
            )

    def _run_whole(self, tiles: npt.NDArray[np.uint8], precision: str) -> npt.NDArray[np.float32]:
        if self.device != "cpu":
            return self._run_in(tiles, precision)
        return self._spread(tiles, lambda some: self._run_in(some, precision))

    def _compile(self) -> None:
        import torch

        plain, blank = self._model, np.full((1, self.input_px, self.input_px, 3), 255, np.uint8)
        try:
            self._model = torch.compile(plain)
            self._embed(blank)
        except Exception as error:  # noqa: BLE001 - a compiler fails in any way it likes; the model runs without
            self._model = plain
            self.warnings.append(
                f"{self.name}: runs without torch.compile, which failed here ({_first_line(error)})."
            )

    def _measure(self) -> int:
        """Length of the vector, from one blank tile; also shows that model and assembly fit together."""
        blank = np.full((1, self.input_px, self.input_px, 3), 255, np.uint8)
        return int(self._embed(blank).shape[1])

    def lanes(self) -> Lanes:
        """Threads that run the model side by side; one batch at a time where all cores work on it."""
        if self.device == "cpu":
            return self._cpu_lanes(self._embed_here)
        return Lanes(self._embed_here, 2 if self.device.startswith("cuda") else 1)

    def _cpu_lanes(self, run: Run) -> Lanes:
        width, threads = self._split_cores()
        return Lanes(run, width, lambda: own_torch_threads(threads))

    def _split_cores(self) -> tuple[int, int]:
        """Batches at once on a CPU, and torch threads of each."""
        import torch

        cores = self._threads or torch.get_num_threads()
        if self._size > LARGE:
            return 1, cores
        # One thread each: with two oneDNN adds in another order, and the bits would depend on the machine.
        # Beyond this many lanes Python itself becomes the narrow place.
        return min(cores, LANES), 1

    def _embed(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self.device != "cpu":
            return self._embed_here(tiles)
        return self._spread(tiles, self._embed_here)

    def _spread(self, tiles: npt.NDArray[np.uint8], run: Run) -> npt.NDArray[np.float32]:
        """Vectors of many tiles on a CPU, piece by piece on all of its lanes."""
        with self._cpu_lanes(run) as lanes:
            size = min(CPU_PIECE, -(-len(tiles) // lanes.width))
            pieces = [lanes.submit(tiles[i : i + size]) for i in range(0, len(tiles), size)]
            return np.concatenate([piece.result().features for piece in pieces])

    def _embed_here(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors of a batch, computed in this thread."""
        size = CPU_PIECE if self.device == "cpu" else len(tiles)
        pieces = [self._padded(tiles[i : i + size]) for i in range(0, len(tiles), size)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _padded(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if len(tiles) >= self.least_at_once:
            return self._run(tiles)
        # bf16's kernel for a single tile rounds otherwise than the one for several
        return self._run(np.repeat(tiles, self.least_at_once, axis=0))[:: self.least_at_once]

    def _run(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors of tiles that the model gets at once, checked, and every failure in one sentence."""
        import torch

        try:
            result = self._run_in(tiles, self.precision)
            wrong = ~np.isfinite(result).all(axis=1)
            if self.precision == "fp16" and wrong.any():
                # some models overflow half precision on a few tiles; the right numbers matter more than the
                # speed
                result[wrong] = self._run_in(tiles[wrong], "fp32")
                note = f"{self.name}: fp16 overflowed on some tiles; those ran in full precision."
                if note not in self.warnings:
                    self.warnings.append(note)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
            raise self._too_large(len(tiles)) from error
        except RuntimeError as error:
            raise self._failed(error, len(tiles)) from error
        if not np.isfinite(result).all():
            raise EncoderError(
                f"{self.name}: the model gave numbers that are not finite; its weights are damaged or "
                f"{self.precision} overflows."
            )
        return result

    def _run_in(self, tiles: npt.NDArray[np.uint8], precision: str) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode(), self._input.stream():
            features = self._forward(self._input.batch(tiles), precision)
            result: npt.NDArray[np.float32] = features.float().cpu().numpy()
        return result

    def _failed(self, error: RuntimeError, n: int) -> EncoderError:
        said = str(error)
        # torch has no class of its own for a full main memory
        if any(words in said for words in ("can't allocate memory", "not enough memory", "out of memory")):
            return self._too_large(n)
        if "CUDA error" in said or "cuDNN" in said or "cudnn" in said or "CUBLAS_STATUS" in said:
            return EncoderError(
                f"{self.name}: the graphics card failed ({_first_line(error)}); tiles encoded so far are "
                'kept. Start the program again, or use the device "cpu".'
            )
        return EncoderError(f"{self.name}: the model failed on a batch of {n} tiles: {_first_line(error)}.")

    def _too_large(self, n: int) -> EncoderMemoryError:
        return EncoderMemoryError(
            f"{self.name}: not enough memory on {self.device} for {n} tiles at once; use smaller batches, a "
            "smaller model, or close what else uses it."
        )

    def _forward(self, batch: Any, precision: str) -> Any:
        import torch

        types = {"fp16": torch.float16, "bf16": torch.bfloat16}
        kind = self.device.split(":")[0]
        model = self._model
        if model is None:
            raise EncoderError(f"{self.name}: the encoder is closed; load it again.")
        context: Any = torch.autocast(kind, dtype=types[precision]) if precision in types else nullcontext()
        with context:
            if self.assembly == "pooled":
                features = model(batch)
                if features.ndim != 2:
                    raise EncoderError(
                        f"{self.name}: the model gives {features.ndim - 1}-dimensional features and no "
                        'vector; load it with assembly="cls" or "mean".'
                    )
                return features
            tokens = model.forward_features(batch)
        if tokens.ndim != 3 or not hasattr(model, "num_prefix_tokens"):
            raise EncoderError(
                f'{self.name}: has no tokens to take "{self.assembly}" from; load it with assembly="pooled".'
            )
        tokens = tokens.float()
        prefix = int(model.num_prefix_tokens)
        if self.assembly != "mean" and not getattr(model, "has_class_token", prefix > 0):
            raise EncoderError(f'{self.name}: has no class token; load it with assembly="mean" or "pooled".')
        mean = tokens[:, prefix:].mean(1)
        if self.assembly == "mean":
            return mean
        return tokens[:, 0] if self.assembly == "cls" else torch.cat([tokens[:, 0], mean], 1)

    def _seen(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return self._input.resized(tiles)

    def close(self) -> None:
        """Free the model's memory."""
        with self._lock:
            super().close()
            self._model = None
        if self.device.startswith("cuda"):
            import torch

            with suppress(RuntimeError):  # a card that failed can't be asked for anything more
                torch.cuda.empty_cache()


def _is_convolutional(model: Any) -> bool:
    """Whether most of a model's weights are convolutions, which run faster with the channels innermost."""
    inside = sum(p.numel() for p in model.parameters() if p.ndim == 4)
    return bool(2 * inside > sum(p.numel() for p in model.parameters()))


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
