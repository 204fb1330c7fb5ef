"""What the hub, the network and the disk can refuse, each in one sentence that says what to do."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from napari_batchfx.errors import EncoderError

__all__ = [
    "checksum_error",
    "cut_error",
    "disk_error",
    "disk_full_error",
    "explained",
    "harmless",
    "no_hub_error",
    "offline_error",
    "refuse_settings",
    "retry_after",
    "status_of",
    "unreachable_error",
]


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
    status = status_of(error)
    if status == 401 and _has_token():
        return EncoderError(
            f"{shown}: {endpoint()} doesn't accept your token, not even for open models; renew it "
            "with `hf auth login` "
            "or in HF_TOKEN, or remove it with `hf auth logout`."
        )
    if status in (401, 403):
        return EncoderError(
            f"{shown}: {endpoint()} refuses access ({status}); log in with `hf auth login`, or renew "
            "HF_TOKEN if it has expired."
        )
    if status == 429:
        return EncoderError(
            f"{shown}: {endpoint()} has had too many requests from here (429); wait {_pause(error)}, "
            "or log in "
            "with `hf auth login`, and load it again."
        )
    return unreachable_error(shown, repo, error)


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


def _gated(error: Exception, shown: str, repo: str) -> EncoderError:
    """A token may be missing, wrong, or right but without the authors' consent: three different remedies."""
    from huggingface_hub import get_token

    if not get_token():
        return EncoderError(
            f"{shown}: its authors ask you to accept their terms first; do so at {page(repo)}, then log in "
            "with `hf auth login` or set HF_TOKEN, and load it again."
        )
    if status_of(error) == 403:
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
    status = status_of(error)
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
        f"check the connection{_proxy()}, set HF_ENDPOINT to a mirror you can reach, or {_other_way(repo)}."
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


def disk_error(shown: str, error: OSError, missing: int, folder: Path) -> EncoderError:
    """What the disk said no to; ``missing`` are the bytes that are still to come."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full_error(shown, missing, folder)
    if error.errno == errno.EFBIG:
        return EncoderError(
            f"{shown}: the disk of {folder} takes no file so large, by its format (FAT32: 4 GB) or by "
            "a limit of this "
            "account; set HF_HOME to a folder on another disk, and load it again."
        )
    return EncoderError(
        f"{shown}: its weights can't be written into {folder} "
        f"({error.strerror or type(error).__name__}); set HF_HOME "
        "to a folder that you may write to, and load it again."
    )


def disk_full_error(shown: str, missing: int, folder: Path) -> EncoderError:
    """No room; ``missing`` are the bytes that are still to come."""
    return EncoderError(
        f"{shown}: the disk is full: {missing / 1e6:,.1f} MB are still to download into {folder}; free some "
        "space or set HF_HOME to a folder on a larger disk, and load it again."
    )


def no_hub_error(shown: str, repo: str) -> EncoderError:
    """Something answers, but not as a hub does."""
    return EncoderError(
        f"{shown}: what answers at {endpoint()} is no hub of models, as where a network wants you to "
        "log in with a "
        f"browser first; do so, check HF_ENDPOINT, or {_other_way(repo)}."
    )


def refuse_settings(shown: str) -> None:
    """:class:`EncoderError` for a token or an address that can't be one, before anything is sent."""
    from huggingface_hub import constants, get_token

    if re.search(r"[^\x21-\x7e]", get_token() or ""):
        where = "HF_TOKEN" if os.environ.get("HF_TOKEN") else "the stored token"
        raise EncoderError(
            f"{shown}: {where} has a character in it that no token has, such as a space; copy it again from "
            f"{endpoint()}/settings/tokens."
        )
    if not re.match(r"https?://[^/\s]+", str(constants.ENDPOINT)):
        raise EncoderError(
            f'{shown}: HF_ENDPOINT is "{endpoint()}", which is no address; one begins with https://.'
        )


def endpoint() -> str:
    """Address of the hub in use, without a name and password in it."""
    from huggingface_hub import constants

    return _without_password(str(constants.ENDPOINT))


def _without_password(text: str) -> str:
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)


def harmless(error: Exception) -> Exception:
    """What an error said, for the details, without tokens, passwords and what signs an address."""
    from huggingface_hub import get_token

    text = _without_password(str(error))
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
    token = get_token()
    for secret in (token, urlsplit(os.environ.get("HF_ENDPOINT", "")).password):
        if secret:
            text = text.replace(secret, "***")
    return ConnectionError(f"{type(error).__name__}: {re.sub(r'hf_[A-Za-z0-9]{8,}', '***', text)}")


def retry_after(error: Exception | None) -> float:
    """Seconds that the server wants to be left alone; 0 where it doesn't say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    text = str(headers.get("Retry-After") or "")
    return float(text) if text.isdecimal() else 0.0


def page(repo: str) -> str:
    """Address of a model's page."""
    return f"{endpoint()}/{repo}"


def status_of(error: Exception | None) -> int | None:
    """HTTP status of the answer that an error is about, if there was one."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return int(status) if status is not None else None


def _pause(error: Exception) -> str:
    seconds = retry_after(error)
    return f"{seconds / 60:,.0f} minutes" if seconds >= 90 else "some minutes"


def _proxy() -> str:
    names = [f"{kind}_PROXY" for kind in ("HTTPS", "ALL", "HTTP")]
    used = [n for name in names for n in (name, name.lower()) if os.environ.get(n)]
    return f" and the proxy that {used[0]} names" if used else ""


def _other_way(repo: str) -> str:
    return f"give the path of a local folder with config.json and model.safetensors of {repo}"
