"""Scan dates as scanners write them."""

from __future__ import annotations

import pytest

from napari_batchfx.slides.dates import iso_date


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("12/29/09", "09:59:15"), "2009-12-29T09:59:15"),
        (("12/29/2009", "9:59:15 PM"), "2009-12-29T21:59:15"),
        (("29/12/2009",), "2009-12-29"),
        (("29.12.2009",), "2009-12-29"),
        (("2009-12-29", "09:59:15", "GMT-0600"), "2009-12-29T09:59:15-06:00"),
        (("2009-12-29T09:59:15.63Z",), "2009-12-29T09:59:15+00:00"),
        (("2017:02:07 13:06:43",), "2017-02-07T13:06:43"),
        (("20091229095915.000000",), "2009-12-29T09:59:15"),
        (("20091229",), "2009-12-29"),
        (("13/29/09",), None),
        (("2009-02-30",), None),
        (("1970-01-01",), None),
        (("0000:00:00 00:00:00",), None),
        (("yesterday",), None),
        ((None,), None),
    ],
)
def test_dates(given, expected):
    assert iso_date(*given) == expected
