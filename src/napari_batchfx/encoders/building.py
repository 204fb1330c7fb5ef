"""Build a timm model and fill it with weights, every tensor accounted for."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_batchfx.encoders.checkpoints import read_state
from napari_batchfx.encoders.classifier import ClassifierHead
from napari_batchfx.encoders.weights import ModelFiles
from napari_batchfx.errors import EncoderError

__all__ = ["Built", "build", "build_random", "pick_device", "pick_precision", "refuse_unknown"]

_INPUT = ("input_size", "fixed_input_size", "interpolation", "mean", "std", "first_conv", "classifier")
_CHUNKED = re.compile(r"(^|\.)blocks\.\d+\.(\d+)\.")
_HEADS = ("head", "fc", "classifier", "head.fc", "last_linear", "linear", "head_drop")


@dataclass(frozen=True)
class Built:
    """A model without its classifier, the classifier, and what is worth knowing about the two."""

    model: Any
    head: ClassifierHead | None = None
    notes: list[str] = field(default_factory=list)


def build(files: ModelFiles, title: str, model_kwargs: Mapping[str, Any]) -> Built:
    """The model of ``files`` without its classifier, in evaluation mode, and the classifier beside it."""
    import timm

    refuse_unknown(files.architecture, title)
    # a projection is the network's own last layer, no classifier: what it gives is the vector
    projected = int(files.extra.get("projected", 0))
    kwargs = {**files.model_args, **_classes(model_kwargs), "num_classes": projected}
    known = {f.name for f in dataclasses.fields(timm.models.PretrainedCfg)}
    config = {k: v for k, v in files.pretrained_cfg.items() if k in known}
    default = timm.models.get_pretrained_cfg(files.architecture)
    if default is not None and not {"input_size", "mean", "std"} & set(config):
        # only the architecture is named: its own input size and normalisation, not ImageNet's
        named = default.to_dict()
        config = {k: named[k] for k in _INPUT if named.get(k) is not None} | config
    config["architecture"] = files.architecture
    # the publisher's input size decides the size of the position embedding, as it does in timm's own loading
    try:
        model = timm.create_model(files.architecture, pretrained=False, pretrained_cfg=config, **kwargs)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AssertionError,
        AttributeError,
        LookupError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise EncoderError(
            f"{title}: timm {timm.__version__} can't build {files.architecture} from its configuration "
            f"({first_line(error)})."
        ) from error
    model = _projecting(model, projected, bool(files.extra.get("levels")), title)
    state, others = _own(read_state(files.weights), model.state_dict())
    named_heads = config.get("classifier") or model.pretrained_cfg.get("classifier")
    heads = (named_heads,) if isinstance(named_heads, str) else tuple(named_heads or ()) or _HEADS
    head = None
    if not projected:
        head = classifier_of(
            {**others, **state}, (*heads, *_HEADS), int(getattr(model, "num_features", 0)), files.class_names
        )
    notes = []
    beside = sorted(k for k in others if not k.startswith(tuple(f"{h}." for h in (*heads, *_HEADS))))
    if beside:
        notes.append(
            f"{title}: {len(beside)} tensors beside the model weren't used ({', '.join(beside[:3])})."
        )
    _fill(model, state, title, files.weights.name, heads)
    return Built(model.eval(), head, notes)


def _projecting(model: Any, projected: int, levels: bool, title: str) -> Any:
    """A model whose projection, if it has one, gives a tile the same bits in every batch."""
    from napari_batchfx.encoders.row_linear import in_rows

    if not projected:
        return model
    if not levels:
        return in_rows(model)
    from napari_batchfx.encoders.levels import has_levels, read_levels

    if not has_levels(model):
        raise EncoderError(
            f"{title}: its configuration asks for all levels of the network, which a "
            f"{type(model).__name__} doesn't give; take levels out of it."
        )
    try:
        return read_levels(model, projected)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise EncoderError(
            f"{title}: the levels of its network can't be read ({first_line(error)})."
        ) from error


def refuse_unknown(architecture: str, title: str) -> None:
    """:class:`EncoderError` for an architecture that this timm doesn't have."""
    import timm

    if not timm.is_model(architecture):
        raise EncoderError(
            f"{title}: its architecture {architecture} isn't known to timm {timm.__version__}; a "
            "newer timm may "
            "know it."
        )


def classifier_of(
    state: Mapping[str, Any], names: tuple[str, ...], dim: int, class_names: tuple[str, ...]
) -> ClassifierHead | None:
    """The linear classifier in ``state``, or None; one layer on the pooled vector, two classes at least."""
    for name in names:
        weight = state.get(f"{name}.weight")
        if weight is None or weight.ndim not in (2, 4) or weight.shape[1:].numel() != dim or len(weight) < 2:
            continue
        k = len(weight)
        bias = state.get(f"{name}.bias")
        return ClassifierHead(
            weight.reshape(k, dim).float().numpy().copy(),
            np.zeros(k, np.float32) if bias is None else bias.float().numpy().copy(),
            class_names if len(class_names) == k else tuple(f"class {i}" for i in range(k)),
        )
    return None


def _own(state: dict[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's tensors without the prefix of whatever the model was wrapped in, and the others."""
    if not any(_CHUNKED.search(k) for k in wanted):
        # DINOv2's training program numbers blocks within chunks ("blocks.1.7." is block 7)
        state = {_CHUNKED.sub(r"\1blocks.\2.", k): v for k, v in state.items()}
    anchor = max(wanted, key=len)
    if anchor in state:
        return state, {}
    # "model." of Lightning, "module." of several GPUs, "backbone." of a classifier, or several of them
    prefixes = [k.removesuffix(anchor) for k in state if k.endswith("." + anchor)]
    if not prefixes:
        return state, {}
    prefix = min(prefixes, key=len)
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return own, {k: v for k, v in state.items() if not k.startswith(prefix)}


def build_random(name: str, seed: int, projected: int = 0, levels: bool = False) -> Any:
    """A timm model with random weights, the same for the same seed; ``projected`` to so many numbers.

    ``levels``: the projection reads every level (:mod:`~napari_batchfx.encoders.levels`).
    """
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False, num_classes=projected)
        return _projecting(model, projected, levels, name).eval()


def _classes(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The registry's names of layers as the classes that timm wants."""
    import timm
    import torch

    named = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": torch.nn.SiLU}
    return {k: named.get(v, v) if isinstance(v, str) else v for k, v in kwargs.items()}


def _fill(model: Any, state: dict[str, Any], title: str, filename: str, names: tuple[str, ...]) -> None:
    """Load ``state``: nothing of the model may be left random, nothing but a classifier left over."""
    heads = tuple(f"{name}." for name in names)

    def problems(candidate: Mapping[str, Any]) -> list[str]:
        wanted = model.state_dict()
        missing = [k for k in wanted if k not in candidate]
        wrong = [k for k in wanted if k in candidate and wanted[k].shape != candidate[k].shape]
        # whole numbers are weights packed for another program: without its scales they mean nothing
        wrong += [
            k
            for k in wanted
            if k in candidate
            and wanted[k].is_floating_point() != candidate[k].is_floating_point()
            and k not in wrong
        ]
        extra = [k for k in candidate if k not in wanted and not k.startswith(heads)]
        return missing + wrong + extra

    if problems(state):
        # checkpoints in their authors' own layout: timm knows how to rename and resize them
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if convert is not None:
            try:
                state = dict(convert(state, model))
            except (
                LookupError,
                RuntimeError,
                ValueError,
                AttributeError,
                TypeError,
                ArithmeticError,
            ) as error:
                raise EncoderError(
                    f"{title}: {filename} doesn't fit the architecture ({first_line(error)})."
                ) from error
    bad = problems(state)
    if bad:
        raise EncoderError(
            f"{title}: {filename} doesn't fit the architecture: {count(len(bad), 'tensor')} missing, "
            "left over or "
            f"of another shape or type ({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''})."
        )
    wanted = model.state_dict()
    model.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=True)


def first_line(error: BaseException) -> str:
    """The first line of an error, for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def count(n: int, what: str) -> str:
    """``1 tensor is``, ``3 tensors are``."""
    return f"{n:,} {what} is" if n == 1 else f"{n:,} {what}s are"


def pick_device(device: str) -> str:
    """``"auto"`` is the first CUDA GPU, else the CPU."""
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise EncoderError(f'There is no device "{device}"; use "auto", "cpu", "cuda" or "mps".') from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise EncoderError(
            'This machine has no CUDA GPU that torch can use; choose the device "auto" or "cpu".'
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise EncoderError(
            'This machine has no Apple GPU that torch can use; choose the device "auto" or "cpu".'
        )
    if kind not in ("cpu", "cuda", "mps"):
        raise EncoderError(f'The device "{device}" isn\'t supported; use "auto", "cpu", "cuda" or "mps".')
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise EncoderError(
            f'This machine has {torch.cuda.device_count()} CUDA GPUs, counted from 0; there is no "{device}".'
        )
    return "cuda:0" if device == "cuda" else device


def pick_precision(precision: str, device: str) -> str:
    """The precision asked for, where the device has it; ``"auto"`` is settled when the model is there."""
    if precision not in ("auto", "fp32", "fp16", "bf16"):
        raise EncoderError(f'There is no precision "{precision}"; use "auto", "fp32", "fp16" or "bf16".')
    if precision == "fp16" and device == "cpu":
        raise EncoderError('Half precision (fp16) runs on GPUs only; use "auto" or "fp32" on the CPU.')
    return precision
