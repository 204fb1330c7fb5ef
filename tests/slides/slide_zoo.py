"""Small slides in each vendor's real layout, written by ourselves; for tests and for the fuzzer.

Every writer plants :data:`SECRET` strings wherever its vendor keeps names, barcodes, users and file names, and label
and macro pages as scanners write them. ``ZOO`` names them all; :func:`write_huge` writes any size without using disk.

>>> slide = ZOO["svs"](tmp_path)          # doctest: +SKIP
>>> slide.path, slide.facts["mpp"]        # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.slides.raw_tiff import Page, RawTiff
from tests.slides.zoo_exports import write_generic, write_ome, write_philips, write_strips, write_trestle
from tests.slides.zoo_microscopes import write_bif, write_ndpi, write_scn, write_svs
from tests.slides.zoo_pages import SECRET, ZooSlide, srgb_profile, strips, tiled, tissue

__all__ = [
    "SECRET",
    "ZOO",
    "ZooSlide",
    "srgb_profile",
    "tissue",
    "write_bif",
    "write_generic",
    "write_huge",
    "write_ndpi",
    "write_ome",
    "write_philips",
    "write_scn",
    "write_strips",
    "write_svs",
    "write_trestle",
]


def write_huge(
    path: Path, side: int = 100_000, flavour: str = "generic", *, tile: int = 256, how: str = "jpeg"
) -> Path:
    """Write a pyramid of any size in a few MB: all tiles of a level are one piece of data that they all point to.

    Parameters
    ----------
    path : Path
        File to write.
    side : int
        Height and width in pixels.
    flavour : {"generic", "svs", "ome", "philips"}
        Whose layout; levels are 2 apart (SVS: 4 apart) down to less than 1 MPix.
    tile : int
        Tile edge in pixels.
    how : {"jpeg", "jpeg2000", "deflate", "lzw", "none"}
        Compression.
    """
    out = RawTiff(path, "big")
    step = 4 if flavour == "svs" else 2
    sides = [side]
    while sides[-1] ** 2 > 2**20:
        sides.append(max(1, sides[-1] // step))
    pages = []
    for k, edge in enumerate(sides):
        page = tiled(out, tissue(tile, tile, seed=k), how, tile, ycbcr=flavour != "svs" and how == "jpeg")
        stored = -(-edge // tile) * tile if flavour == "philips" else edge
        page.pieces *= (-(-edge // tile)) ** 2
        page.tags |= {"ImageWidth": stored, "ImageLength": stored}
        if k and flavour != "svs":
            page.tags["NewSubfileType"] = 1
        pages.append(page)
    first = pages[0]
    if flavour == "svs":
        first.tags["ImageDescription"] = (
            f"Aperio Image Library v12.0.16 \r\n{side}x{side} ({tile}x{tile}) JPEG/RGB Q=70|AppMag = 40|MPP = 0.2500"
        )
        thumbnail = strips(
            out, tissue(64, 64), "jpeg", ImageDescription="Aperio Image Library v12.0.16 \r\nthumbnail"
        )
        pages.insert(1, thumbnail)
    elif flavour == "ome":
        first.tags["ImageDescription"] = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYCZT" Type="uint8" SizeX="{side}" SizeY="{side}" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.25" '
            'PhysicalSizeY="0.25"><Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData IFD="0"/></Pixels></Image></OME>'
        )
        pages = [Page(first.tags, first.pieces, pages[1:])]
    elif flavour == "philips":
        first.tags |= {
            "Software": "Philips DP v1.0",
            "ImageDescription": '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_PIXEL_SPACING">'
            "&quot;0.00025&quot; &quot;0.00025&quot;</Attribute></DataObject>",
        }  # fmt: skip
    else:
        first.tags |= {"XResolution": 4e4, "YResolution": 4e4, "ResolutionUnit": 3}
    return out.finish(pages)


#: Name -> writer; each takes a folder and gives a :class:`ZooSlide`.
ZOO: dict[str, Callable[[Path], ZooSlide]] = {
    "svs": write_svs,
    "svs-ycbcr": lambda p: write_svs(p, ycbcr=True, name="ycbcr.svs"),
    "svs-jpeg2000": lambda p: write_svs(p, how="jpeg2000", tile=256, name="j2k.svs"),
    "svs-jpeg2000-ycbcr": lambda p: write_svs(p, how="jpeg2000-ycbcr", tile=256, name="j2k-ycbcr.svs"),
    "svs-icc": lambda p: write_svs(
        p, icc=srgb_profile(), name="icc.svs", date=("Date = 2009-12-29", "Time = 09:59:15")
    ),
    "svs-icc-second": lambda p: write_svs(p, icc=srgb_profile(), icc_level=1, name="icc2.svs"),
    "svs-old": lambda p: write_svs(p, mpp=None, name="old.svs", date=()),
    "svs-missing-tiles": lambda p: write_svs(p, leave_out=(5,), name="missing.svs", factors=(1,)),
    "ndpi": write_ndpi,
    "ndpi-fluorescence": lambda p: write_ndpi(p, fluorescence="DAPI 2 (387)", name="dapi.ndpi"),
    "ndpi-renamed": lambda p: write_ndpi(p, kind="classic", name="ndpi.tif"),
    "scn": write_scn,
    "scn-fluorescence": lambda p: write_scn(p, source="fluorescence", name="fluorescence.scn"),
    "bif": write_bif,
    "ventana-tiff": lambda p: write_bif(p, joints=False, name="ventana.tif"),
    "philips": write_philips,
    "philips-deep": lambda p: write_philips(p, levels=7, name="deep.tiff"),
    "philips-odd": lambda p: write_philips(p, size=(700, 900), name="odd.tiff"),
    "philips-label-in-xml": lambda p: write_philips(p, label_in_xml=True, name="xml.tiff"),
    "philips-sparse": lambda p: write_philips(p, leave_out=(0, 1, 9), name="sparse.tiff"),
    "ome": write_ome,
    "ome-jpeg": lambda p: write_ome(p, how="jpeg", name="jpeg.ome.tif"),
    "ome-fluorescence": lambda p: write_ome(p, fluorescence=True, name="fluorescence.ome.tif"),
    "trestle": write_trestle,
    "trestle-no-overlap": lambda p: write_trestle(p, overlap=0, name="plain-trestle.tif"),
    "generic": write_generic,
    "generic-jpeg": lambda p: write_generic(p, how="jpeg", name="jpeg.tif"),
    "generic-lzw": lambda p: write_generic(p, how="lzw", name="lzw.tif", kind="big"),
    "generic-icc": lambda p: write_generic(p, icc=srgb_profile(), name="icc.tif"),
    "generic-no-mpp": lambda p: write_generic(p, mpp=None, name="nompp.tif"),
    "strips": write_strips,
    "strips-jpeg": lambda p: write_strips(p, how="jpeg", name="jpeg-strips.tif"),
}
