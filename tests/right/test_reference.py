"""Vectors of real tiles, from the file to the table, equal the straightforward way to cosine > 0.9999."""

import numpy as np
import pytest

from napari_batchfx import embed
from napari_batchfx.encoders import load
from napari_batchfx.slides import open_slide
from napari_batchfx.tiles import TileGrid, read_tiles

from . import reference

SVS = "slides/CMU-1-Small-Region.svs"
OS1 = "scanners/ki67-two-scanners/OS-1-detail.ome.tif"
NDPI = "scanners/ki67-two-scanners/OS-2-ndpi.ome.tif"
VSI = "scanners/ki67-two-scanners/OS-2-vsi.ome.tif"
NODE_A = "tiles/camelyon17/patient_101_node_4"
NODE_B = "tiles/camelyon17/patient_116_node_2"
CRC = "tiles/crc_val_he_7k"

# file, its pixel size where it has none in it (or "ome"), tile edge, tile pixel size, cells
PLACES = [
    pytest.param(SVS, (0.499, 0.499), 224, 0.499, [(1, 2), (5, 4), (9, 6)], id="svs, pixels as they are"),
    pytest.param(SVS, (0.499, 0.499), 224, 0.5, [(2, 3), (6, 5), (10, 8)], id="svs, 0.5 um"),
    pytest.param(SVS, (0.499, 0.499), 256, 0.5, [(2, 3), (6, 5), (9, 7)], id="svs, tiles of 256 px"),
    pytest.param(SVS, (0.499, 0.499), 112, 1.0, [(2, 3), (6, 5), (10, 8)], id="svs, tiles of 112 px at 1 um"),
    pytest.param(OS1, "ome", 224, 0.5, [(0, 0), (0, 1), (1, 0), (1, 1)], id="OS-1"),
    pytest.param(NDPI, "ome", 224, 0.5, [(0, 0), (1, 2), (3, 3)], id="OS-2 ndpi"),
    pytest.param(NDPI, "ome", 300, 0.2271, [(1, 1), (3, 5), (6, 2)], id="OS-2 ndpi, tiles of 300 px"),
    pytest.param(VSI, "ome", 224, 0.5, [(0, 0), (1, 2), (3, 3)], id="OS-2 vsi"),
    pytest.param(f"{NODE_A}/*", (0.25, 0.25), 224, 0.5, [(0, 1), (2, 3), (3, 0)], id="camelyon17 101"),
    pytest.param(f"{NODE_B}/*", (0.25, 0.25), 224, 0.5, [(0, 1), (2, 3), (3, 0)], id="camelyon17 116"),
    pytest.param(
        f"{NODE_B}/*", (0.25, 0.25), 518, 0.25, [(0, 1), (2, 2)], id="camelyon17 116, tiles of 518 px"
    ),
    pytest.param(f"{CRC}/TUM/*", (0.5, 0.5), 224, 0.5, [(0, 0)], id="crc tumour"),
    pytest.param(f"{CRC}/STR/*", (0.5, 0.5), 224, 0.5, [(0, 0)], id="crc stroma"),
]


def find(real_data, name):
    if not name.endswith("/*"):
        return real_data(name)
    return sorted(p for p in real_data(name[:-2]).iterdir() if p.suffix in (".png", ".jpg"))[0]


def both_tiles(real_data, name, mpp, size_px, tile_mpp, cells):
    """The same tiles through a grid of ours (slide, grid) and as Pillow images."""
    path = find(real_data, name)
    slide_mpp = reference.ome_mpp(path) if mpp == "ome" else mpp
    image = reference.picture(path)
    plain = [reference.tile(image, slide_mpp, cell, size_px, tile_mpp) for cell in cells]
    slide = open_slide(path) if mpp == "ome" or path.suffix == ".svs" else open_slide(path, mpp=mpp[0])
    return slide, TileGrid(slide, size_px, tile_mpp), plain


@pytest.fixture(scope="module")
def encoders(saved_model):
    """Ours and the reference's, once for the module: name -> (encoder, reference model, assembly)."""
    made = {}
    for name, architecture, assembly in (
        ("CNN", "mobilenetv4_conv_small", "pooled"),
        ("ViT-S cls", "vit_small_patch16_224", "cls"),
        ("ViT-S cls+mean", "vit_small_patch16_224", "cls+mean"),
    ):
        folder, state, config = saved_model(architecture)
        model = reference.Model(architecture, state, **config)
        made[name] = (load(folder, assembly=assembly, device="cpu", precision="fp32"), model, assembly)
    made["batchfx-mini"] = mini()
    yield made
    for encoder, _, _ in made.values():
        encoder.close()


def mini():
    """The built-in encoder; the reference reads its file with safetensors alone."""
    import json
    from importlib.resources import files

    from safetensors import safe_open

    path = files("napari_batchfx.encoders") / "models" / "batchfx-mini.safetensors"
    with safe_open(str(path), framework="pt") as file:
        said = file.metadata()
        state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 - it is no mapping
    config = json.loads(said["pretrained_cfg"])
    wanted = {k: config[k] for k in ("mean", "std", "interpolation") if k in config}
    return (
        load("batchfx-mini", device="cpu"),
        reference.Model(said["architecture"], state, **wanted),
        "pooled",
    )


_tokens = {}


def reference_vectors(model, place, plain, assembly):
    """The reference's vectors; the tokens of a transformer are computed once for both assemblies."""
    if assembly == "pooled":
        return model.embed(plain)
    if place not in _tokens:
        _tokens[place] = model.embed(plain, "cls+mean")
    both = _tokens[place]
    return both[:, : both.shape[1] // 2] if assembly == "cls" else both


@pytest.mark.parametrize(("name", "mpp", "size_px", "tile_mpp", "cells"), PLACES)
def test_tiles_are_those_of_pillow(real_data, name, mpp, size_px, tile_mpp, cells):
    """The pixels first: our tile is Pillow's, to one grey level in a few pixels.

    At the slide's own edge we repeat the last pixel where Pillow leaves it out of the sum: a rim of 2 px differs.
    """
    slide, grid, plain = both_tiles(real_data, name, mpp, size_px, tile_mpp, cells)
    with slide:
        got = read_tiles(grid, cells).astype(int)
    difference = np.abs(got - np.stack([np.asarray(image) for image in plain]))
    assert (difference > 0).mean() < 0.005
    assert difference.max() <= 8
    for one, (row, col) in zip(difference, cells, strict=True):
        assert one[2 if row == 0 else 0 :, 2 if col == 0 else 0 :].max() <= 1


@pytest.mark.parametrize("which", ["CNN", "batchfx-mini", "ViT-S cls", "ViT-S cls+mean"])
def test_vectors_equal_the_reference(real_data, encoders, which, record_property, capsys):
    encoder, model, assembly = encoders[which]
    # a transformer takes a hundred milliseconds a tile on one core: one tile of every second place
    most, places = (1, PLACES[::2]) if which.startswith("ViT") else (2, PLACES)
    ours, theirs, names = [], [], []
    for place in places:
        name, mpp, size_px, tile_mpp, cells = place.values
        slide, grid, plain = both_tiles(real_data, name, mpp, size_px, tile_mpp, cells[:most])
        with slide:
            ours.append(np.asarray(embed(grid, encoder, cells=cells[:most]).X))
        theirs.append(reference_vectors(model, place.id, plain, assembly))
        names += [place.id] * len(plain)
    a, b = np.concatenate(ours), np.concatenate(theirs)
    assert a.shape == b.shape == (len(names), encoder.dim)
    plain, centred = reference.cosine(a, b), reference.centred_cosine(a, b)
    record_property("worst cosine", float(plain.min()))
    with capsys.disabled():
        print(
            f"\n{which}: {len(a)} real tiles, worst cosine {plain.min():.7f} ({names[plain.argmin()]}), "
            f"centred {centred.min():.7f} ({names[centred.argmin()]})"
        )
    assert plain.min() > 0.9999
    # the common part of all tiles makes cosines high; what tells tiles apart must agree, too
    assert centred.min() > 0.999


def test_the_comparison_would_notice(saved_model, real_data):
    """A tile shifted by one pixel, or resized by another filter, is further off than what is allowed."""
    from PIL import Image

    _, state, config = saved_model("mobilenetv4_conv_small")
    model = reference.Model("mobilenetv4_conv_small", state, **config)
    image = reference.picture(find(real_data, f"{NODE_A}/*"))
    cells = [(0, 1), (2, 3), (3, 0), (1, 1)]
    right = model.embed([reference.tile(image, (0.25, 0.25), cell, 224, 0.5) for cell in cells])
    boxes = [(c * 448, r * 448, c * 448 + 448, r * 448 + 448) for r, c in cells]
    shifted = model.embed([image.crop(tuple(v + 2 for v in box)).resize((224, 224), 3) for box in boxes])
    other = model.embed([image.crop(box).resize((224, 224), Image.Resampling.NEAREST) for box in boxes])
    assert reference.centred_cosine(shifted, right).max() < 0.999
    assert reference.centred_cosine(other, right).max() < 0.999
