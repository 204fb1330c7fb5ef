"""Vendor layouts written from their published structure: Leica SCN, Philips, Ventana, NDPI rules."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_batchfx.errors import SlideError
from napari_batchfx.slides import open_slide


def _image(height, width):
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8)


SCN = """<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection>
<image><dimensions><dimension sizeX="64" sizeY="192" r="0" ifd="0"/></dimensions><pixels/><view sizeX="25000000" sizeY="75000000"/>
<scanSettings><objectiveSettings><objective>0.6</objective></objectiveSettings></scanSettings></image>
<image><device model="Leica SCN400" version="1"/>
<pixels><dimension sizeX="512" sizeY="384" r="0" ifd="1"/><dimension sizeX="128" sizeY="96" r="1" ifd="2"/></pixels>
<view sizeX="256000" sizeY="192000"/><scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>{source}</illuminationSource></illuminationSettings></scanSettings></image>
</collection></scn>"""


def _write_scn(path, source="brightfield"):
    main = _image(384, 512)
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
        writer.write(_image(192, 64), description=SCN.format(source=source), **options)
        writer.write(main, **options)
        writer.write(main[::4, ::4], **options)
    return main


def test_leica_takes_the_finest_image_not_the_overview(tmp_path):
    main = _write_scn(tmp_path / "a.scn")
    with open_slide(tmp_path / "a.scn") as slide:
        assert (slide.vendor, slide.scanner, slide.objective_power) == ("leica", "Leica SCN400", 20)
        assert slide.mpp == (0.5, 0.5)
        assert [level.shape for level in slide.levels if level.stored] == [(384, 512), (96, 128)]
        assert np.array_equal(slide.read(0, 0, 0, 384, 512), main)


def test_leica_fluorescence_is_named(tmp_path):
    _write_scn(tmp_path / "a.scn", "fluorescence")
    with open_slide(tmp_path / "a.scn") as slide:
        assert slide._source.metadata.modality == "fluorescence"


def test_philips_padded_levels_keep_their_content(tmp_path):
    """Philips pads each level to whole tiles: level 1 of 500 x 700 has 250 x 350 pixels that count."""
    spacing = '<Attribute Name="DICOM_PIXEL_SPACING">"0.00025" "0.000227"</Attribute>'
    text = (
        '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_MANUFACTURER">PHILIPS</Attribute>'
        f'<Attribute Name="PIM_DP_SCANNED_IMAGES">{""}</Attribute>{spacing}'
        '<Attribute Name="DICOM_DEVICE_SERIAL_NUMBER">FMT0107</Attribute></DataObject>'
    )
    main = _image(500, 700)
    half = np.pad(main[::2, ::2], ((0, 256 - 250), (0, 384 - 350), (0, 0)))
    with tifffile.TiffWriter(tmp_path / "a.tiff") as writer:
        options = {"tile": (128, 128), "photometric": "rgb", "metadata": None, "software": "Philips DP v1.0"}
        writer.write(main, description=text, **options)
        writer.write(half, description="level=1", **options)
        writer.write(
            _image(100, 90),
            description="Macro -offset=(0,0)",
            rowsperstrip=100,
            photometric="rgb",
            metadata=None,
        )
        writer.write(_image(80, 90), description="Label", rowsperstrip=80, photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tiff") as slide:
        assert slide.mpp == pytest.approx((0.25, 0.227))
        assert (slide.vendor, slide.scanner, slide.scanner_serial) == ("philips", "PHILIPS", "FMT0107")
        assert [level.shape for level in slide.levels] == [(500, 700), (250, 350)]
        assert slide.levels[1].downsample == (2, 2)
        assert np.array_equal(slide.read(1, 0, 0, 250, 350), main[::2, ::2])


@pytest.mark.parametrize("overlap", [0, 18])
def test_ventana_only_without_overlap(tmp_path, overlap):
    xmp = (
        '<EncodeInfo><SlideInfo><iScan Magnification="40" ScanRes="0.25" UnitNumber="BI10N0294" ScannerModel="iScan HT"/>'
        f'</SlideInfo><TileJointInfo OverlapX="{overlap}" OverlapY="0"/></EncodeInfo>'
    ).encode()
    main = _image(256, 384)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(_image(256, 128), description="Label Image", photometric="rgb", metadata=None)
        writer.write(
            main, description="level=0 mag=40 quality=90", tile=(64, 64), photometric="rgb", metadata=None,
            extratags=[(700, "B", len(xmp), xmp, True)],
        )  # fmt: skip
    if overlap:
        with pytest.raises(SlideError, match="overlapping"):
            open_slide(tmp_path / "a.tif")
        return
    with open_slide(tmp_path / "a.tif") as slide:
        assert (slide.vendor, slide.scanner, slide.mpp) == ("ventana", "iScan HT", (0.25, 0.25))
        assert np.array_equal(slide.read(0, 0, 0, 256, 384), main)
