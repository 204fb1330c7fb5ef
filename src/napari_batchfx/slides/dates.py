"""When a slide was scanned, from the many ways in which files write a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["iso_date"]

_YEAR_FIRST = re.compile(r"(\d{4})[-/:.](\d{1,2})[-/:.](\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?!\d)")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2}))?")
_TIME = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)?\s*([AaPp][Mm])?")
_ZONE = re.compile(r"([+-])(\d{2}):?(\d{2})\s*$")
#: Whole-slide scanners exist since the 1990s: an earlier year is an unset clock.
_FIRST_YEAR = 1990


def iso_date(date: str | None, time: str | None = None, zone: str | None = None) -> str | None:
    """Return a scan date as ISO 8601, or ``None`` where the text is no date.

    Parameters
    ----------
    date : str or None
        ``12/29/09`` and ``12/29/2009`` (month first, as Aperio writes it, unless it can't be one),
        ``2009-12-29``, ``2009/12/29``, ``2009:12:29 09:59:15`` (TIFF), ``20091229095915.0`` (DICOM), ISO.
    time : str, optional
        Time of day where it lies in a field of its own; ``9:59:15 PM`` too.
    zone : str, optional
        ``GMT-0600``, ``GMT+01:00``, ``Z``.

    Returns
    -------
    str or None
        "2009-12-29T09:59:15", with the zone's offset where one is given; the date alone without a time.

    Examples
    --------
    >>> iso_date("12/29/09", "09:59:15"), iso_date("20160718122300.000000")
    ('2009-12-29T09:59:15', '2016-07-18T12:23:00')
    >>> iso_date("02/08/24", "11:37:00", "GMT+01:00"), iso_date("0000:00:00")
    ('2024-02-08T11:37:00+01:00', None)
    """
    text = (date or "").strip().strip('"')
    found = _day(text)
    if found is None:
        return None
    (year, month, day), clock, rest = found
    if not _FIRST_YEAR <= year <= 2199:
        return None
    spoken = " ".join(part for part in (rest, (time or "").strip()) if part)
    if clock is None and (match := _TIME.search(spoken)):
        hour = int(match[1])
        if match[4]:
            hour = hour % 12 + (12 if match[4].lower() == "pm" else 0)
        clock = (hour, int(match[2]), int(match[3] or 0))
        rest = spoken[match.end() :]
    try:
        hour, minute, second = clock or (0, 0, 0)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=_offset(zone or rest))
    except ValueError:
        return None
    return moment.isoformat() if clock else moment.date().isoformat()


def _day(text: str) -> tuple[tuple[int, int, int], tuple[int, int, int] | None, str] | None:
    """Return (year, month, day), the time if it is part of the same number, and what follows."""
    if match := _YEAR_FIRST.match(text):
        return (int(match[1]), int(match[2]), int(match[3])), None, text[match.end() :].lstrip(" T")
    if match := _YEAR_LAST.match(text):
        month, day, year = int(match[1]), int(match[3]), int(match[4])
        # dots are the European way of writing a date: day first
        if month > 12 or match[2] == ".":
            month, day = day, month
        year += 0 if year > 99 else 1900 if year >= _FIRST_YEAR - 1900 else 2000
        return (year, month, day), None, text[match.end() :].lstrip(" T")
    if match := _COMPACT.match(text):
        clock = (int(match[4]), int(match[5]), int(match[6])) if match[4] else None
        return (int(match[1]), int(match[2]), int(match[3])), clock, text[match.end() :]
    return None


def _offset(text: str) -> timezone | None:
    text = text.strip()
    if text in {"Z", "UTC", "GMT"}:
        return UTC
    match = _ZONE.search(text)
    if match is None:
        return None
    shift = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if shift >= timedelta(days=1):
        return None
    return timezone(-shift if match[1] == "-" else shift)
