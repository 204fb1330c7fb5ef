"""Load an encoder by name, hub id or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_batchfx.encoders.base import Encoder, check_names
from napari_batchfx.encoders.built_in import MINI, mini_files, mini_identity
from napari_batchfx.encoders.colour_statistics import ColourStatistics, thread_count
from napari_batchfx.encoders.llvm import keep_triton_out
from napari_batchfx.encoders.naming import is_path, meant, plain_name, split_options
from napari_batchfx.encoders.registry import EncoderSpec, find_spec
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Job, run

if TYPE_CHECKING:
    from napari_batchfx.encoders.weights import ModelFiles

__all__ = ["download", "load", "load_job"]


def load(
    name: str | os.PathLike[str],
    device: str = "auto",
    precision: str = "auto",
    *,
    pretrained: bool = True,
    assembly: str | None = None,
    mpp: float | None = None,
    threads: int | str | None = None,
    seed: int = 0,
    compile: bool = False,
) -> Encoder:
    """Load an encoder.

    Parameters
    ----------
    name : str or path
        ``"colour-statistics"`` or ``"batchfx-mini"``, which are built in; a name of :func:`available`
        (``"uni"``, ``"virchow2"``); any timm model (``"resnet50"``); ``"hf-hub:org/name"``, also with
        ``@revision``; a folder with ``config.json`` and weights; a ``.safetensors`` file or torch checkpoint
        that names its architecture, itself or in a ``NAME.json`` beside it, also a classifier with its head.
        A timm name may carry ``?pretrained=false``.
    device : str
        ``"auto"`` (a CUDA GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    precision : str
        ``"fp32"``, ``"fp16"``, ``"bf16"``; ``"auto"`` takes half precision where it is fast and was measured
        to leave the vectors as they are (:mod:`~napari_batchfx.encoders.precision`), else fp32.
    pretrained : bool
        False makes a timm model with random weights, for tests and demonstrations; name and key say so.
    assembly : {"pooled", "cls", "cls+mean", "mean"}, optional
        How the vector is put together, where the registry's or the model's own way isn't wanted.
    mpp : float, optional
        Pixel size the tiles should have, in micrometres; default: the registry's, else 0.5.
    threads : int or "leave-one", optional
        CPU threads; ``"leave-one"`` keeps a core for the viewer.
    seed : int
        Seed of random weights.
    compile : bool
        Run a timm model through ``torch.compile``: minutes the first time, faster after that on some
        machines. Where it fails the model runs as it is, with a note in ``warnings``.

    Returns
    -------
    Encoder

    Raises
    ------
    EncoderError
        One sentence: unknown name, device or precision, gated, not reachable, damaged, more than weights.

    Examples
    --------
    >>> load("colour-statistics").dim
    63
    """
    return run(
        load_job(
            name,
            device,
            precision,
            pretrained=pretrained,
            assembly=assembly,
            mpp=mpp,
            threads=threads,
            seed=seed,
            compile=compile,
        )
    )


def load_job(
    name: str | os.PathLike[str],
    device: str = "auto",
    precision: str = "auto",
    *,
    pretrained: bool = True,
    assembly: str | None = None,
    mpp: float | None = None,
    threads: int | str | None = None,
    seed: int = 0,
    compile: bool = False,
) -> Job[Encoder]:
    """:func:`load` as a job: progress in bytes while the weights download, and a way to stop.

    Yields
    ------
    Progress
        :class:`~napari_batchfx.encoders.downloading.DownloadProgress` while downloading, then in MB while the
        file is compared with its checksum. A stopped download goes on from there the next time.

    Returns
    -------
    Encoder

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> run(load_job("colour-statistics")).name
    'colour-statistics'
    """
    text = plain_name(name)
    if assembly is not None:
        from napari_batchfx.encoders.timm_encoder import ASSEMBLIES

        if assembly not in ASSEMBLIES:
            raise EncoderError(f'There is no assembly "{assembly}"; use one of {", ".join(ASSEMBLIES)}.')
    keep_triton_out()
    check_names(device, precision)
    if mpp is not None:
        from napari_batchfx.encoders.configuration import pixel_size

        mpp = pixel_size(mpp, Path(text).name if is_path(text) else text)
    if text == "colour-statistics":
        encoder: Encoder = ColourStatistics(threads)
        if device not in ("auto", "cpu"):
            encoder.warnings.append(f'colour-statistics runs on the CPU; the device "{device}" isn\'t used.')
        if mpp is not None:
            encoder.mpp = mpp
        return encoder
    text, pretrained = split_options(text, pretrained)
    count = thread_count(threads) if threads is not None else None
    options: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "assembly": assembly,
        "mpp": mpp,
        "threads": count,
        "compile": compile,
    }
    if not pretrained:
        return _random(text, seed, options)
    from napari_batchfx.encoders.making import make_job

    files, title, identity, spec = yield from _files_job(text)
    return (yield from make_job(files, title, identity, spec, options))


def download(name: str | os.PathLike[str]) -> Job[Path]:
    """Get an encoder's weights onto this machine without loading them, as a job.

    Parameters
    ----------
    name : str or path
        As for :func:`load`.

    Yields
    ------
    Progress
        In bytes. A stopped download goes on from there the next time.

    Returns
    -------
    Path
        The file of the weights.

    Raises
    ------
    EncoderError
        One sentence, as of :func:`load`.

    Examples
    --------
    >>> from napari_batchfx.jobs import run
    >>> try:
    ...     run(download("colour-statistics"))
    ... except EncoderError as error:
    ...     print(error)
    colour-statistics is built in; there is nothing to download.
    """
    text = plain_name(name)
    if text in ("colour-statistics", MINI):
        raise EncoderError(f"{text} is built in; there is nothing to download.")
    keep_triton_out()
    files, _, _, _ = yield from _files_job(split_options(text, True)[0])
    return files.weights


def _files_job(text: str) -> Job[tuple[ModelFiles, str, str, EncoderSpec | None]]:
    """Files, title, identity in the key and registry's row of what ``text`` names."""
    from napari_batchfx.encoders.weights import from_hub_job

    if text == MINI:
        own = mini_files()
        return own, MINI, mini_identity(own), None
    spec = find_spec(text)
    if spec is not None and spec.refused:
        raise EncoderError(f"{spec.title} can't be loaded here: {spec.refused}; {spec.instead}.")
    if spec is None and is_path(text):
        path = Path(text).expanduser()
        path = path.resolve() if path.is_dir() else path  # "." has no name
        name = path.name if path.is_dir() else path.stem
        return _from_path(path), name, name, None
    if spec is not None and not spec.timm_name:
        revision = text.partition("@")[2]
        hub_id = spec.hub_id + (f"@{revision}" if revision else "")
        return (yield from from_hub_job(hub_id, spec.title, spec)), spec.title, hub_id, spec
    if text.startswith(("hf-hub:", "hf_hub:")):
        hub_id = text.partition(":")[2]
        return (yield from from_hub_job(hub_id, text)), text, hub_id, None
    name = spec.name if spec is not None else text.removeprefix("timm:")
    hub_id = _hub_of_timm(spec.timm_name if spec is not None else name)
    return (yield from from_hub_job(hub_id, name, spec)), name, hub_id, spec


def _from_path(path: Path) -> ModelFiles:
    from napari_batchfx.encoders.weights import from_file, from_folder

    if not path.exists():
        hint = (
            f' For a model on the hub write "hf-hub:{path.as_posix()}".'
            if path.as_posix().count("/") == 1
            else ""
        )
        raise EncoderError(f"{path.name}: there is no such file or folder.{hint}")
    return from_folder(path) if path.is_dir() else from_file(path)


def _known_to_timm(name: str) -> None:
    import timm

    if timm.is_model(name.split(".")[0]):
        return
    raise EncoderError(f"{name}: no encoder and no timm model of this name{meant(name)}")


def _random(text: str, seed: int, options: dict[str, Any]) -> Encoder:
    """A timm model with random weights."""
    from napari_batchfx.encoders import building, checkpoints
    from napari_batchfx.encoders.making import wrap

    spec = find_spec(text)
    # batchfx-mini without its training: what the training is compared with
    own = mini_files() if text == MINI else None
    name = own.architecture if own is not None else text.removeprefix("timm:")
    if (spec is not None and not spec.timm_name) or (
        spec is None and (is_path(text) or text.startswith(("hf-hub:", "hf_hub:")))
    ):
        title = spec.title if spec is not None else text
        raise EncoderError(
            f"{title}: random weights are for plain timm names only; leave out pretrained=False."
        )
    _known_to_timm(name)
    extra = own.extra if own is not None else {}
    model = building.build_random(name, seed, int(extra.get("projected", 0)), bool(extra.get("levels")))
    return wrap(
        building.Built(model),
        f"{name} (random weights)",
        f"{name}?pretrained=false",
        checkpoints.state_hash(model.state_dict()),
        None,
        {},
        str(model.pretrained_cfg.get("license") or "none (random weights)"),
        options,
        is_random=True,
    )


def _hub_of_timm(name: str) -> str:
    """Repository of a timm model's trained weights."""
    import timm

    _known_to_timm(name)
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=False) if _has_tag(name) else None
    if config is None or not config.hf_hub_id:
        tags = ", ".join(timm.list_pretrained(name.split(".")[0] + ".*")[:3])
        raise EncoderError(
            f"{name}: timm has no such trained weights on the hub"
            + (
                f"; there are {tags}."
                if tags
                else "; choose another model, or pretrained=False for random weights."
            )
        )
    return str(config.hf_hub_id)


def _has_tag(name: str) -> bool:
    import timm

    return "." not in name or name in timm.list_pretrained(name.split(".")[0] + ".*")
