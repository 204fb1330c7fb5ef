"""Files from the Hugging Face Hub, or one sentence that says why not and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_batchfx.encoders.checkpoints import INDEX, pieces
from napari_batchfx.encoders.downloading import download_job, facts_job
from napari_batchfx.encoders.hub_errors import explained, harmless, offline_error, refuse_settings
from napari_batchfx.errors import EncoderError
from napari_batchfx.jobs import Job, run

__all__ = ["WEIGHT_FILES", "HubFacts", "ask", "cached_file", "fetch", "fetch_job", "is_cached", "is_offline"]

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class HubFacts:
    """What the hub says of a repository now."""

    gated: bool
    licence: str
    size_bytes: int | None


def is_offline() -> bool:
    """Whether the user wants no network (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached_file(hub_id: str, filename: str) -> Path | None:
    """Path of a file of a hub repository in this machine's cache, or None; asks no network."""
    from huggingface_hub import errors, try_to_load_from_cache

    repo, _, revision = hub_id.partition("@")
    try:
        path = try_to_load_from_cache(repo, filename, revision=revision or None)
    except errors.HFValidationError:  # no hub name
        return None
    return Path(path) if isinstance(path, str) else None


def is_cached(hub_id: str, weights_file: str = "") -> bool:
    """Whether a repository's weights are on this machine, and its configuration where it has one."""
    if weights_file:
        return cached_file(hub_id, weights_file) is not None
    if cached_file(hub_id, "config.json") is None:
        return False
    if any(cached_file(hub_id, name) is not None for name in WEIGHT_FILES):
        return True
    index = cached_file(hub_id, f"model{INDEX}")
    return index is not None and all(cached_file(hub_id, piece) is not None for piece in pieces(index))


def fetch(hub_id: str, filename: str, *, title: str = "") -> Path | None:
    """Path of a file of a hub repository, downloaded where it isn't cached; see :func:`fetch_job`."""
    return run(fetch_job(hub_id, filename, title=title))


def fetch_job(hub_id: str, filename: str, *, title: str = "") -> Job[Path | None]:
    """Get a file of a hub repository, from the cache or over the network.

    What is in the cache is taken as it is, without asking whether the hub has a newer one.

    Parameters
    ----------
    hub_id : str
        ``org/name`` or ``org/name@revision``.
    filename : str
        File in the repository.
    title : str, optional
        What the user asked for, for the messages.

    Yields
    ------
    Progress
        In bytes, while it downloads. Closing the job stops it; what has arrived is kept for the next time.

    Returns
    -------
    Path or None
        None if the repository has no such file.

    Raises
    ------
    EncoderError
        One sentence: gated, not found, offline or unreachable, cut off, wrong checksum, disk full; and what
        to do.
    """
    shown = title or hub_id
    cached = cached_file(hub_id, filename)
    if cached is not None:
        return cached
    from huggingface_hub import constants, errors, hf_hub_url

    repo, _, revision = hub_id.partition("@")
    if constants.HF_HUB_OFFLINE:
        raise offline_error(shown, repo)
    refuse_settings(shown)
    try:
        url = hf_hub_url(repo, filename, revision=revision or None)
    except errors.HFValidationError as error:
        raise explained(error, shown, repo, revision) from error
    facts = yield from facts_job(url, repo, revision, shown)
    if facts is None:
        return None
    return (yield from download_job(url, facts, repo, filename, revision, shown))


def ask(hub_id: str, title: str = "", weights_file: str = "") -> HubFacts:
    """Size of the weights, licence and gating of a repository, from the hub.

    Raises
    ------
    EncoderError
        One sentence: not found, offline or unreachable.
    """
    from huggingface_hub import HfApi, constants

    repo, _, revision = hub_id.partition("@")
    shown = title or hub_id
    if constants.HF_HUB_OFFLINE:
        raise offline_error(shown, repo)
    refuse_settings(shown)
    try:
        info = HfApi().model_info(repo, revision=revision or None, files_metadata=True, timeout=10)
    except Exception as error:  # noqa: BLE001 - the HTTP library raises many kinds: all become one sentence
        raise explained(error, shown, repo, revision) from harmless(error)
    sizes = {s.rfilename: s.size for s in info.siblings or []}
    wanted = (weights_file,) if weights_file else WEIGHT_FILES
    found = [sizes[name] for name in wanted if sizes.get(name)]
    split = [size or 0 for name, size in sizes.items() if name.startswith("model-0")]
    if not found and split:  # weights in several pieces
        found = [sum(split)]
    card = info.card_data
    licence = str(getattr(card, "license_name", None) or getattr(card, "license", None) or "unknown")
    return HubFacts(bool(info.gated), licence, found[0] if found else None)


def check_cached(path: Path, digest: str, title: str) -> None:
    """:class:`EncoderError` where a file in the hub's cache isn't what its name there says any more.

    The cache names large files by their SHA-256. A file that was damaged on the disk is removed.
    """
    blob = path.resolve()
    if len(blob.name) == 64 and blob.parent.name == "blobs" and blob.name != digest:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise EncoderError(
            f"{title}: {path.name} was damaged on this disk (its checksum is wrong) and has been removed; "
            "load it again to download it anew."
        )
