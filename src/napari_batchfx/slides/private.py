"""Which fields of a slide's file could name a patient or a person: kept apart, shown only when asked for."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

__all__ = ["decoded_barcode", "is_identifying", "private_fields"]

# Operators type what they like into these; some labs put the patient's name into the file name.
_WORDS = re.compile(
    r"bar ?code|patient|accession|user|operator|technician|technologist|pathologist|physician|clinic|hospital"
    r"|institution|department|title|file ?name|document ?name|label|stud(y|ies)|case|specimen|requisition"
    r"|host|computer|slide ?(id|name|number|title|reference|annotation)|annotation|experimenter|owner|artist"
    r"|author|e-?mail|birth|\bmrn\b|^reference$|\brack\b|image ?id|dsr|block|surname|first ?name|last ?name"
    r"|^(image|collection|project) ?name$|^name$|^description$|^comments?$",
    re.IGNORECASE,
)


def is_identifying(key: str) -> bool:
    """Tell from a field's name whether its value could name a patient, a case, a person or a computer.

    Examples
    --------
    >>> [is_identifying(key) for key in ("Barcode", "PatientName", "User", "MPP", "StripeWidth")]
    [True, True, True, False, False]
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_.\-:/]+", " ", key)
    return bool(_WORDS.search(words) or _WORDS.search(key))


def private_fields(fields: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Keep the identifying ones of (key, value) pairs that hold something; the first of a key counts.

    Examples
    --------
    >>> private_fields([("Filename", "S09-1234"), ("MPP", "0.25"), ("Barcode", "")])
    {'Filename': 'S09-1234'}
    """
    found: dict[str, str] = {}
    for key, value in fields:
        text = (value or "").strip("\0 \r\n\t")
        if text and is_identifying(key):
            found.setdefault(key.strip(), text)
    return found


def decoded_barcode(text: str | None) -> str:
    """Return a barcode that Leica and Philips store as Base64; text that isn't comes back as it is.

    Examples
    --------
    >>> decoded_barcode("UzA5LTEyMzQ="), decoded_barcode("S09-1234")
    ('S09-1234', 'S09-1234')
    """
    text = (text or "").strip()
    try:
        plain = base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return text
    return plain if plain.isprintable() and plain else text
