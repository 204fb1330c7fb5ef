"""Image models of Hugging Face transformers, built by it and never by a repository's own code."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_batchfx.encoders.building import Built, classifier_of, count, first_line
from napari_batchfx.encoders.checkpoints import read_state
from napari_batchfx.encoders.listing import INSTALL_TRANSFORMERS, needs_of
from napari_batchfx.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_batchfx.encoders.registry import EncoderSpec
    from napari_batchfx.encoders.weights import ModelFiles

__all__ = ["build_transformers", "data_config", "refuse_early"]

# what transformers raises where configuration and weights don't fit it or each other
_MISFITS = (
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    OSError,
    AttributeError,
    ImportError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)

# in a configuration, but about how it is run, or about what it answers
_NOT_THE_NETWORK = (
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "experts_implementation",
    "id2label",
    "is_encoder_decoder",
    "kwargs",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "self",
    "torch_dtype",
    "transformers_version",
)
_OTHERS = ("backbone", "backbone_config", "use_timm_backbone", "use_pretrained_backbone")
_COUNTS = ("num_batches_tracked", "position_ids", "relative_position_index")  # whole numbers by nature

# PIL's numbers of its filters, as image processors store them
_FILTERS = {2: "bilinear", 3: "bicubic"}


def build_transformers(files: ModelFiles, title: str, spec: EncoderSpec | None) -> Built:
    """The model of ``files`` in evaluation mode, with timm's interface, every tensor accounted for.

    Raises
    ------
    EncoderError
        If transformers is missing or doesn't know the model, the model would need program code from its
        repository, takes no images, or the weights don't fit.
    """
    refuse_early(files.config, title, spec)
    import transformers

    kind = _kind(files, title, spec, transformers)
    values = _of_the_network(files.config, transformers.CONFIG_MAPPING[kind], title)
    state = read_state(files.weights)
    whole = [k for k, v in state.items() if not v.is_floating_point() and not k.endswith(_COUNTS)]
    if whole:
        # weights packed for another program: without its scales they mean nothing
        raise EncoderError(
            f"{title}: {files.weights.name} holds whole numbers in {whole[0]}, as packed (quantised) "
            "weights do; "
            "take the model's own weights."
        )
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(values)
        cls = transformers.MODEL_MAPPING[type(config)]
        with _quiet(transformers):
            model, info = cls.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told by _check, with their names
                **_single(transformers),
            )
    except _MISFITS as error:
        raise EncoderError(
            f"{title}: transformers {transformers.__version__} can't build it from its configuration "
            "and weights "
            f"({first_line(error)})."
        ) from error
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise EncoderError(f"{title}: a {kind} model takes no images alone, so it is no encoder of tiles.")
    _check(info, title, files.weights.name)
    dim = int(getattr(config, "hidden_size", 0))
    head = classifier_of(state, ("classifier", "head"), dim, files.class_names)
    return Built(tokens_of(model.eval(), config), head)


def _of_the_network(config: Mapping[str, Any], cls: Any, title: str) -> dict[str, Any]:
    """The values of ``config`` that describe the network.

    A configuration can also ask for program code of the hub in place of the attention, for another
    repository's
    network inside this one, or for weights to be unpacked. None of that is part of a file of weights.
    """
    known = set(inspect.signature(cls.__init__).parameters) | set(inspect.signature(cls).parameters)
    known |= set(getattr(cls, "attribute_map", {}))
    for key in _OTHERS:
        if config.get(key):
            raise EncoderError(
                f"{title}: it is built around another model ({key}), which would have to be "
                "downloaded, so it can't be "
                "loaded here; load that model by its own name."
            )
    if config.get("quantization_config"):
        raise EncoderError(f"{title}: its weights are packed (quantised); take the model's own weights.")
    return {
        k: v for k, v in config.items() if k in known and not k.startswith("_") and k not in _NOT_THE_NETWORK
    }


def _kind(files: ModelFiles, title: str, spec: EncoderSpec | None, transformers: Any) -> str:
    """Name that transformers has for the model; one that only its repository's code can build is refused."""
    if spec is not None and spec.model_type:
        expected = spec.published_model_type or spec.model_type
        if files.architecture not in (expected, spec.model_type):
            raise EncoderError(
                f"{title}: its configuration says {files.architecture} where {expected} is expected; the "
                "weights are another model's."
            )
        return spec.model_type
    if files.architecture not in transformers.CONFIG_MAPPING:
        raise EncoderError(
            f"{title}: transformers {transformers.__version__} doesn't know {files.architecture}; a newer "
            "one may."
        )
    return files.architecture


def refuse_early(config: Mapping[str, Any], title: str, spec: EncoderSpec | None) -> None:
    """:class:`EncoderError` for what can't be built whatever its weights are; imports nothing."""
    if needs_of("transformers"):
        raise EncoderError(
            f"{title}: is a transformers model ({config.get('model_type')}); install what builds it with "
            f"{INSTALL_TRANSFORMERS}."
        )
    if config.get("auto_map") and (spec is None or not spec.model_type):
        raise EncoderError(
            f"{title}: it runs program code from its repository, which is never done here; compute its "
            "features with its authors' program and import them, or ask them for timm or plain transformers "
            "weights."
        )


def _check(info: Mapping[str, Any], title: str, filename: str) -> None:
    """Nothing of the model may be random but a pooler that isn't used, nothing left over but heads."""
    unused = ("pooler.", "embeddings.mask_token")  # for other tasks and for training
    missing = [k for k in sorted(info["missing_keys"]) if not k.startswith(unused)]
    heads = (*unused, "classifier.", "head.", "decoder.")
    extra = [k for k in sorted(info["unexpected_keys"]) if not k.startswith(heads)]
    wrong = [str(k[0] if isinstance(k, tuple) else k) for k in info.get("mismatched_keys") or ()]
    bad = [*missing, *wrong, *extra]
    if bad:
        raise EncoderError(
            f"{title}: {filename} doesn't fit the architecture: {count(len(bad), 'tensor')} missing, "
            "left over or "
            f"of another shape ({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''})."
        )


def _single(transformers: Any) -> dict[str, str]:
    """Single precision, which version 4 takes by itself; 5 takes what the weights are stored in."""
    return {"dtype": "float32"} if int(transformers.__version__.split(".")[0]) >= 5 else {}


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's table of unused tensors off the terminal: :func:`_check` reads it."""
    words = transformers.utils.logging
    before, bars = words.get_verbosity(), words.is_progress_bar_enabled()
    words.set_verbosity(logging.CRITICAL)
    words.disable_progress_bar()
    try:
        yield
    finally:
        words.set_verbosity(before)
        if bars:
            words.enable_progress_bar()


def tokens_of(model: Any, config: Any) -> Any:
    """``model`` with the few names of timm that the encoder uses."""
    import torch

    class Tokens(torch.nn.Module):
        """Tokens and pooled vector of a transformers image model."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            registers = int(getattr(config, "num_register_tokens", 0) or 0)
            self.has_class_token = any(name.endswith("cls_token") for name, _ in model.named_parameters())
            self.num_prefix_tokens = int(self.has_class_token) + registers
            self._patch = getattr(config, "patch_size", None)

        def forward_features(self, batch: Any) -> Any:
            """Tokens (n, tokens, dim), normalised as the model does last."""
            tokens = self.model(pixel_values=batch).last_hidden_state
            if tokens.ndim == 3 and isinstance(self._patch, int):
                patches = (batch.shape[2] // self._patch) * (batch.shape[3] // self._patch)
                if tokens.shape[1] != patches + self.num_prefix_tokens:
                    # averaging register tokens as if they were patches would change the vector without a sign
                    raise EncoderError(
                        f"The model gives {tokens.shape[1]} tokens where {patches} patches and "
                        f"{self.num_prefix_tokens} class and register tokens are expected."
                    )
            return tokens

        def forward(self, batch: Any) -> Any:
            """The class token (n, dim); without one the model's own pooling, or the mean."""
            answer = self.model(pixel_values=batch)
            if self.has_class_token:
                return answer.last_hidden_state[:, 0]
            pooled = getattr(answer, "pooler_output", None)
            if pooled is None:
                tokens = answer.last_hidden_state
                return tokens.mean(1) if tokens.ndim == 3 else tokens.mean((2, 3))
            return pooled.flatten(1)

    return Tokens()


def data_config(files: ModelFiles, model: Any) -> dict[str, Any]:
    """Input size, mean, sd and filter, in timm's words, from the image processor and the model."""
    processor = files.pretrained_cfg
    size = _side(processor.get("crop_size") if processor.get("do_center_crop") else processor.get("size"))
    if size is None:
        size = _side(getattr(model.model.config, "image_size", None)) or 224
    return {
        "input_size": (3, size, size),
        "interpolation": _FILTERS.get(processor.get("resample", 3), "bicubic"),
        "mean": processor.get("image_mean") or (0.485, 0.456, 0.406),
        "std": processor.get("image_std") or (0.229, 0.224, 0.225),
    }


def _side(size: Any) -> int | None:
    """Side in pixels of ``224``, ``{"height": 224, "width": 224}`` or ``{"shortest_edge": 224}``."""
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, list | tuple) and size:
        size = size[0]
    return int(size) if isinstance(size, int | float) else None
