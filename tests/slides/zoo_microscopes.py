"""Writers of Aperio SVS, Hamamatsu NDPI, Leica SCN and Ventana BIF, as the scanners write them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from tests.slides.raw_tiff import ASCII, FLOAT, LONG, SLONG, Page, RawTiff
from tests.slides.zoo_pages import (
    DATE,
    SECRET,
    ZooSlide,
    image_tags,
    label,
    smaller,
    strips,
    tiled,
    tissue,
)

__all__ = ["write_bif", "write_ndpi", "write_scn", "write_svs"]


def write_svs(
    folder: Path,
    *,
    size: tuple[int, int] = (611, 803),
    how: str = "jpeg",
    tile: int = 240,
    mpp: float | None = 0.499,
    date: tuple[str, ...] = ("Date = 12/29/09", "Time = 09:59:15"),
    icc: bytes | None = None,
    icc_level: int = 0,
    power: int | None = 20,
    ycbcr: bool = False,
    leave_out: tuple[int, ...] = (),
    name: str = "a.svs",
    factors=(1, 4),
) -> ZooSlide:
    """Aperio SVS: full size, thumbnail in strips, smaller levels, label (LZW) and macro (JPEG)."""
    image = tissue(*size)
    out = RawTiff(folder / name, "big" if size[0] * size[1] > 2**30 else "classic")
    fields = [
        f"AppMag = {power}" if power else "",
        "StripeWidth = 2040",
        "ScanScope ID = SS1302",
        f"Filename = {SECRET}-file",
    ]
    fields += [
        *date,
        f"User = {SECRET}-user",
        "Parmset = USM Filter",
        f"MPP = {mpp:.4f}" if mpp else "",
        "Left = 25.691574",
    ]
    fields += [
        f"Title = {SECRET} title",
        f"Barcode = {SECRET}-barcode",
        f"DSR ID = {SECRET}-host",
        "ImageID = 1004486",
    ]
    colours = {"jpeg": "JPEG/RGB Q=70"}.get(how, "J2K/KDU Q=70")
    head = "Aperio Image Library v12.0.16 \r\n"
    text = "|".join(
        [
            f"{head}{size[1]}x{size[0]} [0,0 {size[1]}x{size[0]}] ({tile}x{tile}) {colours}",
            *filter(None, fields),
        ]
    )
    profile = {"ICCProfile": icc} if icc else {}
    levels = [image if f == 1 else smaller(image, f) for f in factors]
    pages = [
        tiled(out, level, how, tile, ycbcr=ycbcr, ImageDescription=text, leave_out=leave_out if k == 0 else (),
              **(profile if k == icc_level else {}))
        for k, level in enumerate(levels)
    ]  # fmt: skip
    thumbnail = strips(
        out, smaller(image, 4), "jpeg", ImageDescription=f"{head}{size[1]}x{size[0]} -> 200x152 - "
    )
    label_page = strips(
        out, label(), "lzw", 7, NewSubfileType=1, ImageDescription=f"{head.rstrip()}\nlabel 80x96"
    )
    macro = strips(
        out,
        label("macro", (64, 160)),
        "jpeg",
        NewSubfileType=9,
        ImageDescription=f"{head.rstrip()}\nmacro 160x64",
    )
    path = out.finish([pages[0], thumbnail, *pages[1:], label_page, macro])
    facts = {
        "mpp": (mpp, mpp) if mpp else None,
        "scanner": "SS1302",
        "power": power,
        "scan_date": DATE if date else None,
    }
    return ZooSlide(path, "aperio", levels, how == "jpeg2000", facts, ("thumbnail", "label", "macro"))


def write_ndpi(
    folder: Path,
    *,
    size: tuple[int, int] = (640, 1024),
    tile_mcus: int = 16,
    levels: int = 3,
    name: str = "a.ndpi",
    fluorescence: str = "",
    mpp: float = 0.2305,
    kind: str = "ndpi",
) -> ZooSlide:
    """Hamamatsu NDPI: one JPEG a level with restart markers, whose places are in tag 65426; macro and focus map."""
    image = tissue(*size)
    out = RawTiff(folder / name, kind)
    chosen = [image if k == 0 else smaller(image, 2**k) for k in range(levels)]
    comments = f"Created=2009/12/29\r\nProduct=C9600-02\r\nNDP.S/N=000206\r\nroi.barcode.macro=948,281,1253,682\r\nuser={SECRET}-user\r\n"

    def common(lens: float, scale: float) -> dict:
        tags = {
            "Make": "Hamamatsu", "Model": "NanoZoomer", "Software": "NDP.scan 2.5.89", "DateTime": "2009:12:29 09:59:15",
            "XResolution": (round(1e4 / (mpp * scale)), 1), "YResolution": (round(1e4 / (mpp * scale)), 1), "ResolutionUnit": 3,
            (65420, LONG): 1, (65421, FLOAT): lens, (65422, SLONG): 0, (65423, SLONG): 0, (65424, SLONG): 0,
            (65427, ASCII): f"{SECRET}-label", (65442, ASCII): "000206", (65449, ASCII): comments,
        }  # fmt: skip
        return tags | ({(65434, ASCII): fluorescence, (65451, FLOAT): 455.0} if fluorescence else {})

    pages = []
    for k, level in enumerate(chosen):
        stream = io.BytesIO()
        # an interval never spans more than a row
        interval = min(tile_mcus, -(-level.shape[1] // 8))
        Image.fromarray(level).save(
            stream, "JPEG", quality=90, subsampling="4:4:4", restart_marker_blocks=interval
        )
        code = stream.getvalue()
        tags = (
            image_tags(level, "jpeg", True)
            | common(20.0 / 2**k, 2.0**k)
            | {"RowsPerStrip": len(level), "YCbCrSubSampling": [1, 1]}
        )
        del tags["PlanarConfiguration"]
        tags[65426, LONG] = restart_places(code)
        pages.append(Page(tags, [out.data(code)]))
    macro = strips(out, label("macro", (48, 128)), "jpeg", 48, ycbcr=True)
    macro.tags |= common(-1.0, 100.0)
    map_page = strips(out, label("map", (20, 30))[..., 0], "none", 20)
    map_page.tags |= common(-2.0, 100.0)
    path = out.finish([*pages, macro, map_page])
    exact = 1e4 / round(1e4 / mpp)
    facts = {
        "mpp": (exact, exact), "scanner": "NanoZoomer", "serial": "000206", "power": 20.0, "scan_date": DATE,
        "modality": "fluorescence" if fluorescence else "brightfield",
    }  # fmt: skip
    return ZooSlide(path, "hamamatsu", chosen, False, facts, ("macro",))


def restart_places(code: bytes) -> np.ndarray:
    """Return where the entropy-coded data starts and goes on after every restart marker."""
    at = 2
    while code[at + 1] != 0xDA:
        at += int.from_bytes(code[at + 2 : at + 4], "big") + 2
    start = at + int.from_bytes(code[at + 2 : at + 4], "big") + 2
    data = np.frombuffer(code, np.uint8)
    marks = np.flatnonzero(
        (data[start:-1] == 0xFF) & (data[start + 1 :] >= 0xD0) & (data[start + 1 :] <= 0xD7)
    )
    return np.concatenate([[start], start + marks + 2]).astype(np.uint32)


def write_scn(
    folder: Path,
    *,
    size: tuple[int, int] = (768, 1024),
    tile: int = 128,
    source: str = "brightfield",
    name: str = "a.scn",
    origin_nm: tuple[int, int] = (2_000_000, 1_000_000),
) -> ZooSlide:
    """Leica SCN: XML in the first page; an overview of the glass, the scan somewhere on it, levels 4 apart."""
    out = RawTiff(folder / name, "big")
    image, grey = tissue(*size), source == "fluorescence"
    levels = [image, smaller(image, 4)]
    if grey:
        levels = [level[..., 1] for level in levels]
    glass_nm, nm = (26_000_000, 76_000_000), 500
    barcode = base64.b64encode(f"{SECRET}-barcode".encode()).decode()
    channels = [0, 1] if grey else [0]
    sizes = [(k, c) for c in channels for k in range(len(levels))]
    rows = "".join(
        f'<dimension sizeX="{levels[k].shape[1]}" sizeY="{levels[k].shape[0]}" r="{k}" c="{c}" ifd="{1 + i}"/>'
        for i, (k, c) in enumerate(sizes)
    )
    settings = (
        "<scanSettings><objectiveSettings><objective>{power}</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>{source}</illuminationSource><numericalAperture>0.4</numericalAperture></illuminationSettings></scanSettings>"
    )
    text = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:1">'
        f'<collection name="{SECRET} collection" uuid="urn:uuid:2" sizeX="{glass_nm[0]}" sizeY="{glass_nm[1]}">'
        f'<barcode>{barcode}</barcode><image name="{SECRET} overview" uuid="urn:uuid:3"><creationDate>2009-12-29T09:58:00.00Z</creationDate>'
        '<device model="Leica SCN400" version="1.5.1"/><pixels sizeX="128" sizeY="384"><dimension sizeX="128" sizeY="384" r="0" ifd="0"/>'
        f'</pixels><view sizeX="{glass_nm[0]}" sizeY="{glass_nm[1]}" offsetX="0" offsetY="0"/>'
        f"{settings.format(power='0.6', source='brightfield')}</image>"
        f'<image name="{SECRET} image"><creationDate>2009-12-29T09:59:15.00Z</creationDate><device model="Leica SCN400" version="1.5.1"/>'
        f'<pixels sizeX="{size[1]}" sizeY="{size[0]}">{rows}</pixels>'
        f'<view sizeX="{size[1] * nm}" sizeY="{size[0] * nm}" offsetX="{origin_nm[1]}" offsetY="{origin_nm[0]}"/>'
        f"{settings.format(power='20', source=source)}</image></collection></scn>"
    )
    scale = {"XResolution": (20_000, 1), "YResolution": (20_000, 1), "ResolutionUnit": 3}
    pages = [
        tiled(out, tissue(384, 128, 9), "jpeg", tile, ycbcr=True, ImageDescription=text, Software="Leica")
    ]
    for k, c in sizes:
        level = levels[k] if c == 0 else 255 - levels[k]
        pages.append(tiled(out, level, "jpeg", tile, ycbcr=not grey, **(scale if k == 0 else {})))
    facts = {
        "mpp": (0.5, 0.5), "scanner": "Leica SCN400", "power": 20.0, "scan_date": DATE + "+00:00",
        "modality": source, "origin": (origin_nm[0] // nm, origin_nm[1] // nm),
    }  # fmt: skip
    shown = [np.repeat(level[..., None], 3, -1) if grey else level for level in levels]
    return ZooSlide(out.finish(pages), "leica", shown, False, facts, ("macro",))


def write_bif(
    folder: Path,
    *,
    tiles: tuple[int, int] = (4, 6),
    tile: int = 128,
    overlap: int = 0,
    name: str = "a.bif",
    joints: bool = True,
) -> ZooSlide:
    """Ventana BIF: label image, thumbnail, levels with magnification; joints of tiles with their overlap."""
    out = RawTiff(folder / name, "big")
    size = (tiles[0] * tile, tiles[1] * tile)
    levels = [tissue(*size), smaller(tissue(*size), 2)]
    iscan = (
        '<iScan Magnification="20" ScanRes="0.465000" UnitNumber="BI10N0294" ScannerModel="VENTANA DP 200" Mode="Brightfield" '
        f'UserName="{SECRET}-user" Barcode1D="{SECRET}-1d" SlideAnnotation="{SECRET} note" BuildVersion="3.3.1.1"/>'
    )

    def number(row: int, col: int) -> int:
        # rows count from the bottom, every second one from right to left
        up = tiles[0] - 1 - row
        return up * tiles[1] + (tiles[1] - 1 - col if up % 2 else col) + 1

    def joint(direction: str, a: int, b: int) -> str:
        return (
            f'<TileJointInfo FlagJoined="1" Confidence="100" Direction="{direction}" Tile1="{a}" Tile2="{b}" '
            f'OverlapX="{overlap}" OverlapY="0"/>'
        )

    right = [
        joint("RIGHT", number(r, c), number(r, c + 1)) for r in range(tiles[0]) for c in range(tiles[1] - 1)
    ]
    up = [joint("UP", number(r, c), number(r - 1, c)) for r in range(1, tiles[0]) for c in range(tiles[1])]
    info = (
        f'<EncodeInfo Ver="2"><SlideInfo>{iscan}</SlideInfo><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" '
        f'NumRows="{tiles[0]}" NumCols="{tiles[1]}" Width="{tile}" Height="{tile}" Pos-X="0" Pos-Y="0">{"".join(right + up)}'
        '</ImageInfo></SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    packet = f"<?xml version='1.0'?><Metadata>{iscan}</Metadata>".encode()
    pages = [
        strips(out, label("label", (120, 60)), "none", 120, ImageDescription="Label_Image", DateTime="2009:12:29 09:59:15", XMP=packet),
        strips(out, smaller(levels[0], 8), "none", 512, ImageDescription="Thumbnail"),
    ]  # fmt: skip
    for k, level in enumerate(levels):
        extra = {"XMP": info.encode()} if k == 0 and joints else {}
        pages.append(
            tiled(
                out,
                level,
                "jpeg",
                tile,
                ycbcr=True,
                ImageDescription=f"level={k} mag={20 / 2**k:g} quality=95",
                **extra,
            )
        )
    facts = {
        "mpp": (0.465, 0.465),
        "scanner": "VENTANA DP 200",
        "serial": "BI10N0294",
        "power": 20.0,
        "scan_date": DATE,
    }
    return ZooSlide(out.finish(pages), "ventana", levels, False, facts, ("macro", "thumbnail"))
