"""The same file in our readers and in OpenSlide: levels, pixel size and pixels; every difference has a reason here.

``DIFFERENCES`` is the list of all that differs, kept in docs/methods/slide-parity.md in words. An entry that is no
longer true fails too.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.slides.slide_zoo import ZOO

from napari_batchfx.slides import open_slide

openslide = pytest.importorskip("openslide")

REAL = {
    "real-svs": "slides/CMU-1-Small-Region.svs",
    "real-ndpi-fluorescence": "slides/fluorescence-ndpi/test3-DAPI.ndpi",
    "real-ome": "scanners/ki67-two-scanners/OS-2-ndpi.ome.tif",
}
#: What OpenSlide doesn't open: nothing to compare.
NOT_OPENED = {
    "scn-fluorescence": "OpenSlide reads brightfield SCN only",
    "strips": "OpenSlide reads tiled TIFF only",
    "strips-jpeg": "OpenSlide reads tiled TIFF only",
    "real-ome": "in strips",
}
DCT = "OpenSlide adds levels that it makes by scaling JPEG blocks while decoding; the file doesn't hold them"
SUB_IFD = "OpenSlide takes OME-TIFF for a generic TIFF and doesn't see sub-IFDs"
GLASS = "OpenSlide lays the scan on a canvas as large as the glass; ours is the scan alone"
#: (file, what) -> why it differs. "levels": OpenSlide has other levels; "shape": of another size; "mpp".
DIFFERENCES = {
    ("ndpi", "levels"): DCT,
    ("ndpi-fluorescence", "levels"): DCT,
    ("ndpi-renamed", "levels"): DCT,
    ("real-ndpi-fluorescence", "levels"): DCT,
    ("ome", "levels"): SUB_IFD,
    ("ome-jpeg", "levels"): SUB_IFD,
    ("ome-fluorescence", "levels"): SUB_IFD,
    ("ome-fluorescence", "mpp"): "OpenSlide doesn't read OME-XML",
    ("ome", "mpp"): "OpenSlide doesn't read OME-XML",
    ("ome-jpeg", "mpp"): "OpenSlide doesn't read OME-XML",
    ("scn", "shape"): GLASS,
    ("svs-old", "mpp"): "the file has no MPP field; ours is estimated from the objective and says so",
}


NAMES = [name for name in (*ZOO, *REAL) if name not in NOT_OPENED]


def path_of(name, written, request):
    return written(name).path if name in ZOO else request.getfixturevalue("real_data")(REAL[name])


@pytest.fixture
def both(request, written):
    """(name, slide, OpenSlide, what the zoo says of the file)."""
    name = request.param
    path = path_of(name, written, request)
    with open_slide(path, backend="tifffile") as slide, openslide.OpenSlide(path) as other:
        yield name, slide, other, written(name) if name in ZOO else None


@pytest.mark.parametrize("name", NOT_OPENED)
def test_what_only_we_open(name, written, request):
    path = path_of(name, written, request)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(path)
    with open_slide(path) as slide:
        assert slide.read(0, 0, 0, 50, 50).shape == (50, 50, 3)


@pytest.mark.parametrize("both", NAMES, indirect=True)
def test_levels(both):
    name, slide, other, _ = both
    ours = [level.shape[::-1] for level in slide.levels if level.stored]
    theirs = list(other.level_dimensions)
    if (name, "shape") in DIFFERENCES:
        assert len(ours) == len(theirs)
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(ours, theirs, strict=True))
    elif (name, "levels") in DIFFERENCES:
        assert ours != theirs
        shared = min(len(ours), len(theirs))
        assert ours[:shared] == theirs[:shared]
    else:
        assert ours == theirs


@pytest.mark.parametrize("both", NAMES, indirect=True)
def test_pixel_size(both):
    name, slide, other, _ = both
    given = [other.properties.get(f"openslide.mpp-{axis}") for axis in "yx"]
    theirs = None if None in given else tuple(map(float, given))
    if (name, "mpp") in DIFFERENCES:
        assert slide.mpp != theirs
    elif theirs is None:
        assert slide.mpp is None
    else:
        assert slide.mpp == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("both", NAMES, indirect=True)
def test_pixels(both):
    """Lossless codes are equal; JPEG is within 2 grey levels, 0.5 in the mean, over regions at edges and seams."""
    _, slide, other, zoo = both
    origin = (0, 0) if zoo is None else zoo.facts.get("origin", (0, 0))
    rng = np.random.default_rng(11)
    stored = [i for i, level in enumerate(slide.levels) if level.stored]
    for k, index in enumerate(stored[: other.level_count]):
        step = other.level_downsamples[k]
        for y, x, h, w in _regions(slide.levels[index], rng, is_whole=float(step).is_integer()):
            place = (round(x * step) + origin[1], round(y * step) + origin[0])
            region = np.asarray(_on_white(other.read_region(place, k, (w, h))), np.int16)
            difference = np.abs(slide.read(index, y, x, h, w) - region)
            assert difference.max() <= 2, (index, y, x, h, w)
            assert difference.mean() <= 0.5
            if zoo is not None and zoo.is_lossless:
                assert not difference.any()


def _regions(level, rng, *, is_whole: bool) -> list[tuple[int, int, int, int]]:
    """Return corners, the seam of four tiles, what crosses the lower right edge's last tiles, and random places."""
    height, width = level.shape
    h, w = min(150, height), min(170, width)
    if not is_whole:
        # OpenSlide takes places in level-0 pixels: others than the origin fall between pixels and are interpolated
        return [(0, 0, height, width)]
    th, tw = level.tile
    places = [(0, 0), (height - h, width - w), (0, width - w), (height - h, 0)]
    places.append((max(0, min(th - h // 2, height - h)), max(0, min(tw - w // 2, width - w))))
    places += [(int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))) for _ in range(4)]
    return [(y, x, h, w) for y, x in places]


def _on_white(image: Image.Image) -> Image.Image:
    # what a file leaves out is transparent in OpenSlide and glass here
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def test_every_difference_is_of_a_file_that_is_compared():
    assert {name for name, _ in DIFFERENCES} <= set(NAMES)
    assert set(NOT_OPENED) <= {*ZOO, *REAL}
