"""Write a small MIRAX slide: Slidedat.ini, Index.dat and Data0000.dat, as openslide.org/formats/mirax describes them."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np

SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
SIDE = 128


def write_mirax(path, levels, *, mpp=0.25, label=None, empty=(), fill=0xFFFFFF):
    """Write ``levels``, each half the one before; tiles (row, col) of level 0 in ``empty`` aren't stored."""
    folder = path.with_suffix("")
    folder.mkdir()
    height, width = levels[0].shape[:2]
    across, down = -(-width // SIDE), -(-height // SIDE)
    data = bytearray()
    pages = []
    for k, image in enumerate(levels):
        step, entries = 2**k, []
        for row in range(0, down, step):
            for col in range(0, across, step):
                if (row, col) in empty:
                    continue
                y, x = row // step * SIDE, col // step * SIDE
                tile = np.full((SIDE, SIDE, 3), 255, np.uint8)
                part = image[y : y + SIDE, x : x + SIDE]
                tile[: part.shape[0], : part.shape[1]] = part
                code = imagecodecs.jpeg8_encode(tile, level=98, subsampling="444")
                entries.append((row * across + col, len(data), len(code), 0))
                data += code
        pages.append(entries)
    others = []
    if label is not None:
        code = imagecodecs.jpeg8_encode(label, level=98)
        others.append((len(data), len(code), 0))
        data += code
    (folder / "Data0000.dat").write_bytes(bytes(data))
    (folder / "Index.dat").write_bytes(index(pages, others))
    (folder / "Slidedat.ini").write_text(slidedat(len(levels), across, down, mpp, bool(others), fill))
    path.write_bytes(imagecodecs.jpeg8_encode(np.full((32, 32, 3), 90, np.uint8)))
    return path


def index(pages, others):
    """The version, the slide's id, two roots; each level's record points to a page of (image, offset, length, file)."""
    out = bytearray(b"01.02" + SLIDE_ID.encode())
    roots = len(out)
    out += bytes(8)

    def put(at, *values):
        out[at : at + 4 * len(values)] = struct.pack(f"<{len(values)}i", *values)

    for which, records in enumerate((pages, others)):
        table = len(out)
        put(roots + 4 * which, table)
        out.extend(bytes(4 * max(1, len(records))))
        for k, record in enumerate(records):
            start = len(out)
            put(table + 4 * k, start)
            out.extend(bytes(8))
            put(start, 0, start + 8)
            if which == 0:
                out.extend(struct.pack("<2i", len(record), 0))
                for entry in record:
                    out.extend(struct.pack("<4i", *entry))
            else:
                out.extend(struct.pack("<4i", 1, 0, 0, 0))
                out.extend(struct.pack("<3i", *record))
    return bytes(out)


def slidedat(n_levels, across, down, mpp, has_label, fill):
    bgr = (fill & 0xFF) << 16 | fill & 0xFF00 | fill >> 16
    lines = [
        "[GENERAL]", "SLIDE_VERSION = 01.02", f"SLIDE_ID = {SLIDE_ID}", f"IMAGENUMBER_X = {across}",
        f"IMAGENUMBER_Y = {down}", "OBJECTIVE_MAGNIFICATION = 20", "SLIDE_CREATIONDATETIME = 02/06/2008 13:50:21",
        "SLIDE_NAME = Doe Jane 1957", "CameraImageDivisionsPerSide = 1",
        "[HIERARCHICAL]", "HIER_COUNT = 1", f"NONHIER_COUNT = {int(has_label)}", "INDEXFILE = Index.dat",
        "HIER_0_NAME = Slide zoom level", f"HIER_0_COUNT = {n_levels}",
    ]  # fmt: skip
    lines += [f"HIER_0_VAL_{k}_SECTION = LAYER_0_LEVEL_{k}_SECTION" for k in range(n_levels)]
    if has_label:
        lines += [
            "NONHIER_0_NAME = Scan data layer", "NONHIER_0_COUNT = 1", "NONHIER_0_VAL_0 = ScanDataLayer_SlideBarcode",
            "NONHIER_0_VAL_0_SECTION = NONHIERLAYER_0_SECTION", "[NONHIERLAYER_0_SECTION]", "BARCODE_IMAGE_TYPE = JPEG",
            "SCANNER_HARDWARE_VERSION = Pannoramic 250", "SCANNER_HARDWARE_ID = PSCAN-1", "BARCODE_VALUE = S09-1234",
        ]  # fmt: skip
    lines += ["[DATAFILE]", "FILE_COUNT = 1", "FILE_0 = Data0000.dat"]
    for k in range(n_levels):
        lines += [
            f"[LAYER_0_LEVEL_{k}_SECTION]", f"IMAGE_CONCAT_FACTOR = {int(k > 0)}", "OVERLAP_X = 0", "OVERLAP_Y = 0",
            f"MICROMETER_PER_PIXEL_X = {mpp * 2**k}", f"MICROMETER_PER_PIXEL_Y = {mpp * 2**k}", "IMAGE_FORMAT = JPEG",
            f"IMAGE_FILL_COLOR_BGR = {bgr}", f"DIGITIZER_WIDTH = {SIDE}", f"DIGITIZER_HEIGHT = {SIDE}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
