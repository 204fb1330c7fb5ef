"""What the model saw is what reached it, bit for bit, and says nothing private."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tests.slides.profiles import matrix_profile
from tests.study.conftest import MPP, SHAPE, TILE, set_up, tissue

from napari_batchfx.encoders import ColourStatistics
from napari_batchfx.encoders.building import build_random
from napari_batchfx.encoders.timm_encoder import TimmEncoder
from napari_batchfx.errors import StudyError, TileError
from napari_batchfx.jobs import run
from napari_batchfx.slides import open_slide, write_pyramid
from napari_batchfx.study import SeenTile, Study, saw
from napari_batchfx.study.inspection import saw_job
from napari_batchfx.study.instruments import _key
from napari_batchfx.study.mapping import component_maps
from napari_batchfx.study.maps import adapt_maps, probe_maps
from napari_batchfx.study.seen_tile import PROVENANCE_CHUNK


class Recorder(ColourStatistics):
    """A real encoder that keeps what it is given."""

    def __init__(self):
        super().__init__(threads=1)
        self.given = []

    def _embed(self, tiles):
        self.given.append(np.array(tiles))
        return super()._embed(tiles)


class ResizingRecorder(TimmEncoder):
    """A real network whose input is 96 px; keeps what goes into it, taken back to grey levels."""

    def __init__(self):
        self.given = []
        config = {"input_size": (3, 96, 96), "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3),
                  "std": (0.2, 0.25, 0.3)}  # fmt: skip
        super().__init__(
            build_random("resnet10t", 0),
            name="resnet10t",
            identity="resnet10t",
            weights_hash="0" * 64,
            data_config=config,
            assembly="pooled",
            device="cpu",
            precision="fp32",
            mpp=MPP,
            licence="",
            is_random=True,
        )
        self.given.clear()

    def _forward(self, batch, precision):
        mean, std = (np.array(v)[None, :, None, None] for v in (self.mean, self.std))
        grey = (batch.float().cpu().numpy() * std + mean) * 255
        assert np.abs(grey - grey.round()).max() < 1e-2
        self.given.append(grey.round().astype(np.uint8).transpose(0, 2, 3, 1))
        return super()._forward(batch, precision)


def use(study, encoder):
    """Let the study encode with this encoder."""
    study.instruments._encoders = {_key(study.settings.encode): encoder}
    return encoder


@pytest.mark.parametrize("made", [Recorder, ResizingRecorder])
@pytest.mark.parametrize("normalizer", [None, "macenko", "reinhard"])
def test_it_is_what_reaches_the_model(slides, tmp_path, made, normalizer):
    with set_up(tmp_path / "s", slides) as study:
        study.settings.encode.normalizer = normalizer
        study.settings.encode.target = "A-2" if normalizer else None
        study.settings.encode.mpp = 0.7  # resampled, and off the pixels of the file
        encoder = use(study, made())
        tile = saw(study, "B-1", (2, 3))
        encoder.given.clear()
        run(study.encode_job(["B-1"], {"B-1": np.array([[0, 0], [2, 3], [1, 1]])}))
        given = np.concatenate(encoder.given)
        np.testing.assert_array_equal(tile.as_seen, given[1])
        assert (given[0] != given[1]).any()
        assert tile.as_read.shape == (TILE, TILE, 3)
        assert tile.as_seen.shape == ((96, 96, 3) if made is ResizingRecorder else (TILE, TILE, 3))
        assert (tile.as_stained is None) == (normalizer is None)
        if tile.as_stained is not None:
            assert (tile.as_stained != tile.as_read).any()
        assert not tile.stored
        assert saw(study, "B-1", (2, 3)).stored


def test_the_colour_profile_counts(tmp_path):
    profile = matrix_profile(gamma=1.8)
    path = write_pyramid(tmp_path / "a.tif", _pixels(0), MPP, compression="deflate", icc_profile=profile)
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path)
        study.settings.encode.size_px = TILE
        encoder = use(study, Recorder())
        plain = saw(study, entry, (5, 6))
        study.update_slide(entry, icc="auto")
        managed = saw(study, entry, (5, 6))
        run(study.encode_job([entry], {entry.name: np.array([[5, 6]])}))
        np.testing.assert_array_equal(managed.as_seen, encoder.given[-1][0])
        assert (managed.as_read != plain.as_read).any()
        assert plain.provenance["colours"] == "as stored in the file"
        assert "sRGB" in managed.provenance["colours"]


def test_values_are_those_of_the_overlays(done):
    with Study.open(done) as study:
        entry = study.slides[1]
        cell = (1, 2)
        tile = saw(study, entry, cell)
        assert tile.values["encoded tiles"] == pytest.approx(
            float(component_maps(study)[entry.fingerprint].values[cell]), rel=1e-5
        )
        probe = probe_maps(study)[entry.fingerprint]
        assert tile.values["site probe (scanner)"] == pytest.approx(float(probe.values[cell]), rel=1e-6)
        assert tile.words["site probe (scanner)"] == probe.words(tile.values["site probe (scanner)"])
        assert "guessing 0.5" in tile.words["site probe (scanner)"]
        maps = adapt_maps(study)[entry.fingerprint]
        for kind in ("before", "after", "changed"):
            assert tile.values[f"prediction {kind}"] == float(maps[kind].values[cell])
        named = maps["before"].words(tile.values["prediction before"])
        assert tile.words["prediction before"].startswith(f"{named} (")
        assert named in ("pale", "dense")


def test_a_result_of_other_tiles_is_looked_up_where_it_lies_and_says_so(done):
    with Study.open(done) as study:
        entry = study.slides[0]
        probe = probe_maps(study)[entry.fingerprint]
        study.settings.encode.size_px = TILE // 2
        tile = saw(study, entry, (3, 5))
        y0, x0, y1, x1 = tile.bounds_um
        value = probe.at((y0 + y1) / 2, (x0 + x1) / 2)
        assert tile.values["site probe (scanner)"] == pytest.approx(value, rel=1e-6)
        assert f"tiles of {TILE} px" in tile.words["site probe (scanner)"]
        assert not tile.stored
        assert "encoded tiles" not in tile.values


def test_provenance_says_where_it_comes_from(tmp_path):
    path = write_pyramid(tmp_path / "fine.tif", _pixels(0), 0.25, compression="deflate")
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path)
        study.settings.encode.size_px, study.settings.encode.mpp = TILE, 0.4
        tile = saw(study, entry, (1, 2))
        assert tile.bounds_um == pytest.approx((25.6, 51.2, 51.2, 76.8))
        facts = tile.provenance
        assert facts["tile"] == "row 1, column 2 (from 0)"
        assert facts["read from"] == "level 0, 0.25 µm/px, resampled to 0.4 µm/px (1.6 to 1)"
        assert facts["slide id"] == entry.fingerprint
        assert facts["encoder id"] == study.encoder().key
        assert facts["precision"] == "fp32 on cpu"
        assert facts["tissue"] == f"{100 * study.grid(entry).tissue[1, 2]:.0f} % of the tile"
        assert facts["artefacts"].startswith("none found")
        assert facts["damaged"] == "no"
        assert "0.4 µm/px" in tile.warnings[0]
        assert "0.5 µm/px" in tile.warnings[0]


def test_pixels_as_they_are_and_enlarged_ones_are_told_apart(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", _pixels(0), 0.5, compression="deflate")
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path)
        study.settings.encode.size_px = TILE
        tile = saw(study, entry, (0, 0))
        np.testing.assert_array_equal(tile.as_seen, _pixels(0)[:TILE, :TILE])
        assert "as they are" in tile.provenance["read from"]
        assert tile.warnings == ()
        study.settings.encode.mpp = 0.2
        assert any("no more detail" in warning for warning in saw(study, entry, (0, 0)).warnings)


def test_a_folds_share_is_said(tmp_path):
    pixels = np.full((1024, 1024, 3), 240, np.uint8)
    pixels[:512] = 190, 22, 30  # red ink
    path = write_pyramid(tmp_path / "a.tif", pixels, 1.0, compression="deflate")
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path)
        study.settings.encode.size_px, study.settings.encode.mpp = 128, 1.0
        assert saw(study, entry, (1, 3)).provenance["artefacts"].startswith("100 % under pen")
        assert saw(study, entry, (7, 3)).provenance["artefacts"].startswith("none found")


def test_the_surroundings_hold_the_tile(tmp_path):
    pixels = np.full((*SHAPE, 3), 235, np.uint8)
    pixels[2 * TILE : 3 * TILE, 4 * TILE : 5 * TILE] = 40, 90, 60
    path = write_pyramid(tmp_path / "a.tif", pixels, MPP, compression="deflate")
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path)
        study.settings.encode.size_px = TILE
        tile = saw(study, entry, (2, 4))
        y0, x0, y1, x1 = (round(v) for v in tile.frame_px)
        dark = tile.context.mean(axis=2) < 150
        assert dark[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].all()
        dark[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = False
        assert not dark.any()


def test_the_pictures_come_first(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        partial = [step.partial for step in saw_job(study, "A-1", (0, 0)) if step.partial is not None]
        assert isinstance(partial[0], SeenTile)
        assert partial[0].as_seen.shape == (TILE, TILE, 3)
        assert "encoder" in partial[0].provenance
        assert partial[0].context is None


def test_nothing_private_leaves_by_default(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        study.update_slide("A-1", name="Schmidt 1951", patient="Schmidt", site="Kiel")
        study.settings.encode.normalizer, study.settings.encode.target = "reinhard", "Schmidt 1951"
        tile = saw(study, "Schmidt 1951", (0, 0))
        path = tile.save(tmp_path / "tile")
        assert path.name == "tile.png"
        private = ("Schmidt", "Kiel", str(tmp_path), "A-1")
        assert not [word for word in private if word in tile.text()]
        assert not [word for word in private if word.encode() in path.read_bytes()]
        assert "Schmidt 1951" in tile.text(with_names=True)
        assert (
            "Schmidt 1951"
            in json.loads(
                Image.open(tile.save(tmp_path / "named.png", with_names=True)).text[PROVENANCE_CHUNK]
            )["provenance"].values()
        )


def test_the_png_holds_the_pixels_and_where_they_come_from(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        tile = saw(study, "B-2", (3, 4))
        with Image.open(tile.save(tmp_path / "tile.png")) as picture:
            said = json.loads(picture.text[PROVENANCE_CHUNK])
            pixels = np.asarray(picture.convert("RGB"))
        assert said["cell"] == [3, 4]
        assert said["provenance"]["encoder"] == "colour-statistics"
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (TILE, TILE, 3))[..., 0, :, :, :]
        at = [tuple(p) for p in np.argwhere((windows[12] == tile.as_seen).all(axis=(1, 2, 3)))]
        assert len(at) == 2  # as scanned, and the same again: what the model got
        with pytest.raises(StudyError, match=r"ending in \.png"):
            tile.save(tmp_path / "tile.jpg")
        with pytest.raises(StudyError, match="choose another place"):
            tile.save(tmp_path / "nowhere" / "tile.png")


def test_what_can_t_be_shown_is_one_sentence(slides, tmp_path):
    with set_up(tmp_path / "s", slides) as study:
        with pytest.raises(TileError, match="outside of the grid"):
            saw(study, "A-1", (99, 0))
        with pytest.raises(StudyError, match="no slide called"):
            saw(study, "nobody", (0, 0))


def test_damage_is_said(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", _pixels(0), MPP, tile=128, levels=1)
    with open_slide(path) as slide:
        segments = slide._source._segments[0]
        start, count = int(segments._offsets[1]), int(segments._counts[1])
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(count)
    path.write_bytes(data)
    with Study.create(tmp_path / "s") as study:
        entry = study.add_slide(path)
        study.settings.encode.size_px = TILE
        whole, broken = saw(study, entry, (0, 0)), saw(study, entry, (0, 2))
        assert (whole.damaged, broken.damaged) == (False, True)
        assert whole.provenance["damaged"] == "no"
        assert broken.provenance["damaged"].startswith("yes")
        assert any("damaged" in warning for warning in broken.warnings)


def _pixels(seed):
    return (tissue(seed) * 255).astype(np.uint8)
