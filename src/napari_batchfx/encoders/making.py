"""Make an encoder of a model's files, and compare it with what the registry says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_batchfx.encoders import building
from napari_batchfx.encoders.base import Encoder
from napari_batchfx.encoders.checkpoints import hash_job, joint_hash
from napari_batchfx.encoders.comparison import compare
from napari_batchfx.encoders.hub import check_cached
from napari_batchfx.encoders.registry import EncoderSpec
from napari_batchfx.encoders.timm_encoder import TimmEncoder
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Job, Progress

if TYPE_CHECKING:
    from napari_batchfx.encoders.weights import ModelFiles

__all__ = ["make_job", "wrap"]


def make_job(
    files: ModelFiles, name: str, identity: str, spec: EncoderSpec | None, options: dict[str, Any]
) -> Job[Encoder]:
    """The encoder of ``files``, checked against its row of the registry; progress in MB read."""
    digests = []
    for path in files.weight_files:
        digests.append((yield from hash_job(path, name)))
        check_cached(path, digests[-1], name)
    digest = digests[0] if files.weight_files == (files.weights,) else joint_hash(digests)
    yield Progress(0, 0, f"loading {name}", "encoders")
    if files.library == "transformers":
        from napari_batchfx.encoders.transformers_model import build_transformers

        built = build_transformers(files, name, spec)
    else:
        built = building.build(files, name, spec.model_kwargs if spec else {})
    licence = (
        spec.licence
        if spec
        else str(files.pretrained_cfg.get("license") or files.extra.get("licence") or "unknown")
    )
    return wrap(built, name, identity, digest, spec, dict(files.extra), licence, options, files=files)


def wrap(
    built: building.Built,
    name: str,
    identity: str,
    weights_hash: str,
    spec: EncoderSpec | None,
    extra: dict[str, Any],
    licence: str,
    options: dict[str, Any],
    *,
    files: ModelFiles | None = None,
    is_random: bool = False,
) -> Encoder:
    """A built model as an encoder, with what the user should know in its ``warnings``."""
    kind = files.library if files is not None else "timm"
    config, given = _data_config(built.model, files)
    notes = list(built.notes)
    if spec is not None:
        prefix = int(getattr(built.model, "num_prefix_tokens", 0))
        notes += compare(spec, config, given, prefix, _defaults(files))
    device = building.pick_device(options["device"])
    try:
        encoder = TimmEncoder(
            built.model,
            name=name,
            identity=identity,
            weights_hash=weights_hash,
            data_config=config,
            assembly=options["assembly"] or (spec.assembly if spec else str(extra.get("assembly", "pooled"))),
            device=device,
            precision=building.pick_precision(options["precision"], device),
            mpp=options["mpp"] or (spec.mpp if spec else float(extra.get("mpp", 0.5))),
            licence=licence,
            is_random=is_random,
            threads=options["threads"],
            kind=kind,
            compile=options.get("compile", False),
        )
    except (
        AssertionError,
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
    ) as error:
        # the first tile goes through here: what can be built needn't run
        raise EncoderError(
            f"{name}: the network of its configuration doesn't run on a tile ({building.first_line(error)})."
        ) from error
    except MemoryError as error:
        raise EncoderError(
            f"{name}: not enough memory for a single tile of {config['input_size'][-1]:,} px; use a "
            "smaller model, or close what else uses it."
        ) from error
    if spec is not None and options["assembly"] is None and encoder.dim != spec.dim:
        raise EncoderError(
            f"{name}: gives {encoder.dim} numbers a tile where its authors give {spec.dim}; the weights are "
            "another model's."
        )
    if encoder.assembly == "pooled" and built.head is not None:
        encoder.head = built.head
    if is_random:
        notes.append(f"{name}: random weights, nothing was learned; for tests and demonstrations.")
    encoder.warnings.extend(notes)
    return encoder


def _data_config(model: Any, files: ModelFiles | None) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """What the model takes, and which of it came with the weights."""
    given: Mapping[str, Any]
    if files is not None and files.library == "transformers":
        from napari_batchfx.encoders.transformers_model import data_config

        processor = files.pretrained_cfg
        given = {
            "mean": processor.get("image_mean"),
            "std": processor.get("image_std"),
            "interpolation": processor.get("resample"),
        }
        return data_config(files, model), given
    import timm

    given = files.pretrained_cfg if files is not None else {}
    config = dict(timm.data.resolve_model_data_config(model))
    embed: Any = getattr(model, "patch_embed", None)
    if getattr(embed, "strict_img_size", False) and getattr(embed, "img_size", None):
        # a size in the arguments counts more than one beside them: the network takes no other
        config["input_size"] = (3, *embed.img_size)
    return config, given


def _defaults(files: ModelFiles | None) -> Mapping[str, Any]:
    """Mean and sd that timm has for the architecture: beside weights they may say nothing of the weights."""
    if files is None or files.library != "timm":
        return {}
    import timm

    named = timm.models.get_pretrained_cfg(files.architecture)
    return {"mean": named.mean, "std": named.std} if named is not None else {}
