"""What the hub, the network and the disk can refuse, each in one sentence that says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from napari_batchfx.errors import EncoderError

__all__ = ["disk_full_error", "explained", "is_disk_full", "offline_error"]


def explained(error: Exception, shown: str, repo: str, revision: str = "") -> EncoderError:
    """The error to raise for whatever asking the hub raised."""
    from huggingface_hub import errors

    if isinstance(error, EncoderError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return _gated(error, shown, repo)
    if isinstance(error, errors.RevisionNotFoundError):
        return EncoderError(f"{shown}: {page(repo)} has no revision {revision!r}; check what follows the @.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return EncoderError(
            f"{shown}: there is no model {repo} at {endpoint()}, or it is private; check the spelling, or "
            "log in with `hf auth login` if you have access."
        )
    if isinstance(error, errors.HFValidationError):
        return EncoderError(f'{shown}: "{repo}" is no hub name; write hf-hub:organisation/model.')
    if isinstance(error, errors.OfflineModeIsEnabled):
        return offline_error(shown, repo)
    status = _status(error)
    if status in (401, 403):
        return EncoderError(
            f"{shown}: {endpoint()} refuses access ({status}); log in with `hf auth login`, or renew "
            "HF_TOKEN if it has expired."
        )
    if status == 429:
        return EncoderError(
            f"{shown}: {endpoint()} has had too many requests from here (429); wait some minutes, or log in "
            "with `hf auth login`, and load it again."
        )
    return unreachable_error(shown, repo, error)


def _gated(error: Exception, shown: str, repo: str) -> EncoderError:
    """A token may be missing, wrong, or right but without the authors' consent: three different remedies."""
    from huggingface_hub import get_token

    if not get_token():
        return EncoderError(
            f"{shown}: its authors ask you to accept their terms first; do so at {page(repo)}, then log in "
            "with `hf auth login` or set HF_TOKEN, and load it again."
        )
    if _status(error) == 403:
        return EncoderError(
            f"{shown}: your token is known but has no access yet; accept the authors' terms at {page(repo)} "
            "(some consent by hand, which takes days) and, for a fine-grained token, allow it to read gated "
            "repositories."
        )
    return EncoderError(
        f"{shown}: {endpoint()} doesn't accept your token; make a new one at {endpoint()}/settings/tokens, "
        f"set it with `hf auth login` or as HF_TOKEN, and accept the authors' terms at {page(repo)}."
    )


def offline_error(shown: str, repo: str) -> EncoderError:
    """The weights aren't here and the hub mustn't be asked."""
    return EncoderError(
        f"{shown}: its weights aren't on this machine and HF_HUB_OFFLINE is set; unset it to download them, "
        f"or {_other_way(repo)}."
    )


def unreachable_error(shown: str, repo: str, error: Exception | None = None) -> EncoderError:
    """The hub doesn't answer, or not as a hub does."""
    status = _status(error)
    reason = f" (it answers {status})" if status else ""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return EncoderError(
            f"{shown}: the certificate of {endpoint()} isn't trusted on this machine, as behind a firewall "
            "that reads along; set SSL_CERT_FILE to the file of your institution's certificates and load it "
            "again."
        )
    if isinstance(error, OSError) and error.errno and error.strerror:  # a read-only disk, not the network
        reason = f" ({error.strerror})"
    return EncoderError(
        f"{shown}: its weights aren't on this machine and couldn't be downloaded from {endpoint()}{reason}; "
        f"check the connection, set HF_ENDPOINT to a mirror you can reach, or {_other_way(repo)}."
    )


def cut_error(shown: str, done: int, total: int) -> EncoderError:
    """The connection broke again and again."""
    return EncoderError(
        f"{shown}: the connection to {endpoint()} broke at {done / 1e6:,.1f} of {total / 1e6:,.1f} MB; check "
        "it and load again: the download goes on from there."
    )


def checksum_error(shown: str, filename: str) -> EncoderError:
    """All bytes came, but not the right ones."""
    return EncoderError(
        f"{shown}: {filename} arrived damaged (its checksum isn't the hub's) and was thrown away; load it "
        "again, and if that doesn't help ask whether a proxy or virus scanner changes downloads."
    )


def is_disk_full(error: OSError) -> bool:
    """Whether a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full_error(shown: str, missing: int, folder: Path) -> EncoderError:
    """No room; ``missing`` are the bytes that are still to come."""
    return EncoderError(
        f"{shown}: the disk is full: {missing / 1e6:,.1f} MB are still to download into {folder}; free some "
        "space or set HF_HOME to a folder on a larger disk, and load it again."
    )


def endpoint() -> str:
    """Address of the hub in use."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def page(repo: str) -> str:
    """Address of a model's page."""
    return f"{endpoint()}/{repo}"


def _status(error: Exception | None) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return int(status) if status is not None else None


def _other_way(repo: str) -> str:
    return f"give the path of a local folder with config.json and model.safetensors of {repo}"
