"""Colour profiles for the tests, written byte by byte after ICC.1:2001-04 (version 2.4)."""

from __future__ import annotations

import struct

import numpy as np

# primaries of Adobe RGB (1998), adapted to D50; its gamma is 563/256
PRIMARIES = np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]])
GAMMA = 563 / 256
D50 = (0.9642, 1.0, 0.8249)


def fixed(*values):
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def _description(text):
    data = text.encode("ascii") + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(data)) + data + bytes(78)


def _xyz(values):
    return b"XYZ " + bytes(4) + fixed(*values)


def _profile(tags, space=b"RGB ", pcs=b"XYZ ", kind=b"scnr"):
    start = 128 + 4 + 12 * len(tags)
    table, data = b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(
        ">I4sI4s4s4s6H4s",
        start + len(data),
        bytes(4),
        0x02400000,
        kind,
        space,
        pcs,
        2020,
        1,
        1,
        0,
        0,
        0,
        b"acsp",
    )
    head += bytes(64 - len(head)) + struct.pack(">I", 1) + fixed(*D50)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + data


def matrix_profile(name="Test scanner, wide gamut", gamma=GAMMA):
    """Three curves and a matrix, as most scanners' profiles are."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    tags = {b"desc": _description(name), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(D50)}
    for colour, xyz in zip(b"rgb", PRIMARIES, strict=True):
        tags[bytes([colour]) + b"XYZ"] = _xyz(xyz)
        tags[bytes([colour]) + b"TRC"] = curve
    return _profile(tags)


def table_profile(name="Test scanner, table", steps=9):
    """A table from RGB to Lab ("mft1"), bent so that no matrix could say the same."""
    r, g, b = np.meshgrid(*[np.linspace(0, 1, steps)] * 3, indexing="ij")
    light = 8 + 92 * (0.3 * r + 0.6 * g + 0.1 * b) ** 0.8
    lab = np.stack(
        [light * 2.55, 128 + 60 * (r - g) * (1 - 0.4 * b), 128 + 60 * (g - b) * (1 - 0.4 * r)], axis=-1
    )
    ramp = bytes(range(256)) * 3
    table = b"mft1" + bytes(4) + bytes([3, 3, steps, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp
    table += np.clip(np.rint(lab), 0, 255).astype(np.uint8).tobytes() + ramp
    tags = {
        b"desc": _description(name),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(D50),
        b"A2B0": table,
    }
    return _profile(tags, pcs=b"Lab ")


def grey_profile():
    """A profile for grey pixels, which says nothing about RGB."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 512)
    return _profile(
        {
            b"desc": _description("Grey"),
            b"cprt": b"text" + bytes(4) + b"none\0",
            b"wtpt": _xyz(D50),
            b"kTRC": curve,
        },
        space=b"GRAY",
    )
