"""The command line as a person meets it: results on standard output, one sentence for what went wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_batchfx.cli import app
from napari_batchfx.slides import write_pyramid

MPP = 0.5


@pytest.fixture
def command():
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two slides of pink tissue with dark dots, the second one bluer."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    files = []
    for name, colour in (("A", (215, 130, 190)), ("B", (190, 125, 205))):
        image = np.empty((320, 320, 3), np.uint8)
        image[:] = colour
        image[rng.random(image.shape[:2]) > 0.7] = (90, 50, 130)
        noise = rng.integers(-8, 8, image.shape)
        image = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
        files.append(
            write_pyramid(folder / f"{name}.tif", image, MPP, compression="deflate", scanner=f"S-{name}")
        )
    return files


def process(*arguments, **options):
    """The command line in a process of its own."""
    code = "from napari_batchfx.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def one_sentence(stderr: str) -> bool:
    return len(stderr.strip().splitlines()) == 1 and "Traceback" not in stderr


def test_help_names_the_commands_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['napari-batchfx', '--help']\n"
        "from napari_batchfx.cli import main\n"
        "try:\n main()\nexcept SystemExit as end:\n print(end.code)\n"
        "heavy = ('torch', 'napari', 'anndata', 'sklearn', 'zarr', 'numba', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    for name in ("info", "add", "embed", "probe", "report", "run", "doctor", "samples", "demo"):
        assert f" {name} " in done.stdout
    assert done.stdout.splitlines()[-2:] == ["0", "[]"]


def test_info(command, slides, real_data):
    result = command("info", slides[0], "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["shape"] == [320, 320]
    assert facts["mpp"] == [MPP, MPP]
    given = json.loads(command("info", slides[0], "--json", "--mpp", "0.25").stdout)
    assert given["mpp_source"] == "given"
    text = command("info", real_data("slides/CMU-1-Small-Region.svs")).stdout
    assert "0.499 x 0.499" in text
    assert "2967 x 2220" in text
    assert "/" not in text  # no folder of this machine
    for line in (
        "scan date          2009-12-29T09:59:15",
        "modality           brightfield",
        "colour profile     none",
        "associated images  thumbnail, label, macro",
    ):
        assert line in text.splitlines()


def test_info_keeps_names_to_itself(command, tmp_path):
    """Barcodes, users and file names are printed only when asked for, under a heading that warns."""
    from tests.slides.slide_zoo import SECRET, write_ome, write_svs

    for zoo in (write_svs(tmp_path), write_ome(tmp_path)):
        for more in ((), ("--json",)):
            assert SECRET not in command("info", zoo.path, *more).stdout
        text = command("info", zoo.path, "--private").stdout
        open_part, _, private = text.partition("\nprivate\nThis can name a patient: keep it out of reports")
        assert SECRET not in open_part
        assert f"{SECRET}-barcode" in private
        assert "associated images (may show the label)" in private
        facts = json.loads(command("info", zoo.path, "--private", "--json").stdout)
        assert f"{SECRET}-barcode" in facts.pop("private").values()
        assert SECRET not in json.dumps(facts)


def test_info_names_the_colour_profile(command, tmp_path):
    from tests.slides.slide_zoo import srgb_profile, write_svs

    zoo = write_svs(tmp_path, icc=srgb_profile())
    assert "sRGB built-in (pixels as stored)" in command("info", zoo.path).stdout
    assert "sRGB built-in (to sRGB)" in command("info", zoo.path, "--icc", "on").stdout
    facts = json.loads(command("info", zoo.path, "--json", "--icc", "auto").stdout)
    assert (facts["icc"], facts["icc_name"]) == ("auto", "sRGB built-in")
    plain = write_svs(tmp_path, name="plain.svs").path
    for how in ("on", "magic"):
        result = command("info", plain, "--icc", how)
        assert result.exit_code == 1
        assert one_sentence(result.stderr)


def test_info_says_that_a_scan_is_fluorescence(command, real_data):
    text = command("info", real_data("slides/fluorescence-ndpi/test3-DAPI.ndpi")).stdout
    assert "modality           fluorescence" in text.splitlines()


def bad_files(folder):
    folder.mkdir(exist_ok=True)
    (folder / "text.svs").write_text("this is a letter, not a slide")
    (folder / "empty.tif").write_bytes(b"")
    (folder / "cut.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    (folder / "a folder").mkdir()
    return {
        "missing": "no.svs",
        "text named svs": "text.svs",
        "empty": "empty.tif",
        "cut off": "cut.tif",
        "folder": "a folder",
    }


@pytest.mark.parametrize("what", ["missing", "text named svs", "empty", "cut off", "folder"])
@pytest.mark.parametrize("how", ["info", "embed"])
def test_a_bad_file_is_one_sentence(command, tmp_path, what, how):
    name = bad_files(tmp_path / "bad")[what]
    more = ("--out", tmp_path / "t.h5ad") if how == "embed" else ()
    result = command(how, tmp_path / "bad" / name, *more)
    assert result.exit_code == 1
    assert one_sentence(result.stderr)
    assert name in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "t.h5ad").exists()


def test_a_slide_that_can_t_be_encoded_is_one_sentence(command, tmp_path):
    from PIL import Image

    Image.new("RGB", (300, 300), (200, 120, 180)).save(tmp_path / "no size.png")
    Image.new("RGB", (300, 300), (255, 255, 255)).save(tmp_path / "glass.png")
    for name, more, says in (
        ("no size.png", (), "no pixel size"),
        ("no size.png", ("--mpp", 0.5, "--tile-px", 512, "--tile-mpp", 0.5), "less than one tile"),
        ("glass.png", ("--mpp", 0.5, "--tile-px", 64, "--tile-mpp", 0.5), "no tile has 25% tissue"),
    ):
        result = command("embed", tmp_path / name, "--out", tmp_path / "t.h5ad", *more)
        assert result.exit_code == 1
        assert one_sentence(result.stderr)
        assert says in result.stderr
        assert not (tmp_path / "t.h5ad").exists()


@pytest.mark.parametrize("how", [("probe",), ("run",), ("report",), ("adapt",)])
def test_a_bad_study_is_one_sentence(command, tmp_path, how):
    folder = tmp_path / "bad.batchfx"
    folder.mkdir()
    (folder / "study.json").write_text("{ torn")
    for path in (folder, tmp_path / "nothing.batchfx"):
        result = command(*how, path)
        assert result.exit_code == 1
        assert one_sentence(result.stderr)
        assert path.name in result.stderr


def test_a_bad_table_is_one_sentence(command, tmp_path):
    (tmp_path / "t.h5ad").write_text("no table")
    for name in ("t.h5ad", "missing.h5ad"):
        result = command("probe", tmp_path / name)
        assert result.exit_code == 1
        assert one_sentence(result.stderr)
        assert name in result.stderr


def test_a_fault_of_ours_is_a_sentence_too(command, slides, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("napari_batchfx.slides.open_slide", broken)
    result = command("info", slides[0])
    assert result.exit_code == 1
    assert one_sentence(result.stderr)
    assert "ZeroDivisionError" in result.stderr
    assert "--debug" in result.stderr


def test_wrong_use_is_two(command, slides, tmp_path):
    assert command("embed", slides[0]).exit_code == 2
    assert command("nonsense").exit_code == 2
    out = tmp_path / "t.h5ad"
    assert command("embed", slides[0], "--out", out, "--normalizer", "magic").exit_code == 2
    assert command("embed", *slides, "--out", out, "--site", "a", "--site", "b", "--site", "c").exit_code == 2


def test_embed_writes_a_table_and_goes_on_from_a_study(command, slides, tmp_path):
    from napari_batchfx.features import read_h5ad

    table, study = tmp_path / "t.h5ad", tmp_path / "s"
    common = ("--out", table, "--tile-px", 64, "--tile-mpp", MPP, "--study", study, "--site", "AMC")
    first = command("embed", slides[0], *common)
    assert first.exit_code == 0, first.stderr
    assert "25 tiles, 1 slide, 63 features" in first.stderr
    both = command("embed", *slides, *common, "--scanner", "S1", "--scanner", "S2")
    assert both.exit_code == 0, both.stderr
    assert "50 tiles, 2 slides, 63 features (25 of them were there already)" in both.stderr
    rows = read_h5ad(table).obs
    assert rows.site.unique().tolist() == ["AMC"]
    assert rows.groupby("slide", observed=True).scanner.first().to_dict() == {"A": "S1", "B": "S2"}


def test_a_bad_slide_among_good_ones(command, slides, tmp_path):
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    out = tmp_path / "t.h5ad"
    result = command("embed", slides[0], bad, "--out", out, "--tile-px", 64, "--tile-mpp", MPP)
    assert result.exit_code == 3
    assert "bad.svs" in result.stderr
    assert "1 of 2 slides failed" in result.stderr
    assert out.exists()


def test_probe_a_table(command, slides, tmp_path):
    out = tmp_path / "t.h5ad"
    scanners = ("--scanner", "S1", "--scanner", "S2")
    assert (
        command("embed", *slides, "--out", out, "--tile-px", 64, "--tile-mpp", MPP, *scanners).exit_code == 0
    )
    options = ("--batch", "scanner", "--group", "slide", "--permutations", 2)
    text = command("probe", out, *options)
    assert text.exit_code == 0, text.stderr
    facts = json.loads(command("probe", out, *options, "--json").stdout)
    assert facts["verdict"] in " ".join(text.stdout.split())
    assert facts["batches"] == ["S1", "S2"]
    assert facts["balanced_accuracy"] > 0.9  # the second slide is plainly bluer
    assert "confidence" not in facts
    missing = command("probe", out, "--batch", "hospital")
    assert missing.exit_code == 1
    assert one_sentence(missing.stderr)


def test_run_report_and_adapt_a_study(command, slides, tmp_path):
    from napari_batchfx.adapt import REGISTRY
    from napari_batchfx.study import Annotation, Study

    with Study.create(tmp_path / "s") as study:
        for path, scanner in zip(slides, ("S1", "S2"), strict=True):
            entry = study.add_slide(path, scanner=scanner)
            for name, x0, x1 in (("left", 0, 80), ("right", 80, 160)):
                study.annotations.append(
                    Annotation(entry.name, name, False, [[0, x0], [0, x1], [160, x1], [160, x0]])
                )
            study.annotations.append(
                Annotation(entry.name, None, True, [[0, 0], [0, 160], [100, 160], [100, 0]])
            )
        encode, probe = study.settings.encode, study.settings.probe
        encode.size_px, encode.mpp, encode.stride_px = 64, MPP, 32
        probe.permutations, probe.n_bootstrap = 1, 20
        study.settings.adapt.train_on = ["S1"]
        study.save()
    result = command("run", tmp_path / "s.batchfx", "--report", tmp_path / "run.html")
    assert result.exit_code == 0, result.stderr
    assert "encoded: 162 tiles (0 there already), 2 slides" in result.stdout
    with Study.open(tmp_path / "s.batchfx") as ran:
        assert f"probe: {ran.results.probe.result.verdict}\n" in result.stdout
    assert "tiles changed" in result.stdout
    assert (tmp_path / "run.html").stat().st_size > 10_000
    adapted = command("adapt", tmp_path / "s.batchfx", "--method", "standardize-robust", "--json")
    assert adapted.exit_code == 0, adapted.stderr
    facts = json.loads(adapted.stdout)
    assert facts["comparison"]["n"] == 81
    with Study.open(tmp_path / "s.batchfx") as again:
        assert again.settings.adapt.method == "standardize-robust"
        assert again.results.adapt.sentence == facts["sentence"]
    every = command("adapt", tmp_path / "s.batchfx", "--method", "all", "--json")
    assert every.exit_code == 0, every.stderr
    facts = json.loads(every.stdout)
    # pairs need aligned rescans, which these are not; that of the study last
    possible = [key for key, one in REGISTRY.items() if one.needs != "pairs"]
    assert list(facts) == [*(key for key in possible if key != "standardize-robust"), "standardize-robust"]
    assert all(one["comparison"]["n"] == 81 for one in facts.values())
    with Study.open(tmp_path / "s.batchfx") as again:
        assert len(again.results.adaptations) == len(possible)
        assert again.results.adapt.sentence == facts["standardize-robust"]["sentence"]
    listed = command("adapt", "--list")
    assert listed.exit_code == 0
    assert all(key in listed.stdout for key in REGISTRY)
    shown = command("adapt", tmp_path / "s.batchfx", "--method", "all")
    assert all(name in shown.stdout for name in ("standardize-robust", "tvn", "tiles changed"))
    probed = command("probe", tmp_path / "s", "--group", "slide", "--permutations", 0, "--json")
    assert probed.exit_code == 0, probed.stderr
    assert json.loads(probed.stdout)["permutation_p"] is None
    how = ("--group", "slide", "--permutations", 0, "--classifier", "centroid", "--signature", "--json")
    other = command("probe", tmp_path / "s", *how)
    assert other.exit_code == 0, other.stderr
    assert json.loads(other.stdout)["probe"] == "centroid"
    assert json.loads(other.stdout)["signature"]["first"]
    with Study.open(tmp_path / "s.batchfx") as again:
        # each classifier's answer is kept beside the other's
        assert {one.result.probe for one in again.results.probes} == {"logistic", "centroid"}
        assert again.results.probe.result.probe == "centroid"
        # and is a step that `run` does again, after that of `run` itself
        asked = [step.settings["probe"] for step in again.steps if step.kind == "probe"]
        assert [one["probe"] for one in asked[1:]] == ["logistic", "centroid"]
        assert {one["group"] for one in asked[1:]} == {"slide"}
    assert command("probe", tmp_path / "s.batchfx", "--batch", "hospital").exit_code == 2
    report = command("report", tmp_path / "s.batchfx")
    assert report.exit_code == 0, report.stderr
    assert (tmp_path / "s.html").exists()
    assert command("adapt", tmp_path / "s.batchfx", "--method", "magic").exit_code == 2
    slides_gone = [path.rename(path.with_suffix(".away")) for path in slides]
    try:
        lost = command("run", tmp_path / "s.batchfx")
        assert lost.exit_code == 1
        assert "A: its file A.tif is not where it was" in lost.stderr
    finally:
        for path in slides_gone:
            path.rename(path.with_suffix(".tif"))


def test_stain_writes_a_picture(command, tmp_path, real_data):
    from PIL import Image

    slide = real_data("slides/CMU-1-Small-Region.svs")
    out = tmp_path / "n.png"
    result = command("stain", slide, "--out", out, "--size", 256)
    assert result.exit_code == 0, result.stderr
    assert max(Image.open(out).size) == 256
    assert command("stain", slide, "--out", out, "--method", "magic").exit_code == 2


def test_samples_without_a_network(command, tmp_path):
    listed = command("samples")
    assert listed.exit_code == 0
    assert "CMU-1-Small-Region.svs" in listed.stdout
    got = command("samples", "get", "immunohistochemistry", "--out", tmp_path)
    assert got.exit_code == 0, got.stderr
    assert (tmp_path / got.stdout.strip().split("/")[-1]).is_file()
    unknown = command("samples", "get", "no such sample")
    assert unknown.exit_code == 1
    assert one_sentence(unknown.stderr)


def test_doctor(command):
    result = command("doctor", "--json", "--no-network")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["packages"]["tifffile"]
    assert facts["compute"]["device"] in ("cpu", "cuda", "mps")
    assert facts["model hub"]["reachable"] is None
    assert facts["model hub"]["token"] in ("yes", "no")
    assert set(facts["screen"]) >= {"binding", "screen", "gl"}
    assert "python" in command("doctor", "--no-network").stdout


def test_doctor_shows_no_secret():
    secret = "hf_0123456789abcdefSECRET"
    environment = os.environ | {"HF_TOKEN": secret, "HF_ENDPOINT": "http://user:pass-word@127.0.0.1:9"}
    environment.pop(
        "HF_HUB_OFFLINE", None
    )  # the checks set it; here the hub is to be asked, and is not there
    done = process("doctor", "--json", env=environment)
    assert done.returncode == 0
    assert secret not in done.stdout + done.stderr
    assert "pass-word" not in done.stdout + done.stderr
    hub = json.loads(done.stdout)["model hub"]
    assert hub == {"endpoint": "http://127.0.0.1:9", "offline": False, "token": "yes", "reachable": False}


def test_debug_shows_where_and_a_process_says_one(tmp_path):
    plain = process("info", "no.svs", cwd=tmp_path)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert one_sentence(plain.stderr)
    assert "no.svs" in plain.stderr
    debug = process("info", "no.svs", "--debug", cwd=tmp_path)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child there")
def test_ctrl_c_stops_cleanly_and_keeps_what_is_stored(tmp_path):
    import signal

    path = tmp_path / "big.tif"
    image = np.random.default_rng(0).integers(60, 220, (2048, 2048, 3), dtype=np.uint8)
    image[..., 1] //= 2
    write_pyramid(path, image, MPP, compression="deflate", levels=1)
    study = tmp_path / "s.batchfx"
    code = "from napari_batchfx.cli import main; main()"
    arguments = [
        "embed",
        path,
        "--out",
        tmp_path / "t.h5ad",
        "--study",
        study,
        "--tile-px",
        16,
        "--tile-mpp",
        MPP,
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):  # until the first tiles are stored
        if list(study.glob("features.zarr/*/*/done/c.*")) or child.poll() is not None:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "Stopped" in stderr
    assert not (tmp_path / "t.h5ad").exists()
    assert (study / "study.json").exists()


@pytest.fixture
def small_study(slides, tmp_path):
    """A study of two own copies of the slides, with classes and far too few controls."""
    from napari_batchfx.study import Annotation, Study

    with Study.create(tmp_path / "s") as study:
        for path, scanner in zip(slides, ("S1", "S2"), strict=True):
            entry = study.add_slide(shutil.copy(path, tmp_path / path.name), scanner=scanner)
            for name, x0, x1 in (("left", 0, 80), ("right", 80, 160)):
                study.annotations.append(
                    Annotation(entry.name, name, False, [[0, x0], [0, x1], [160, x1], [160, x0]])
                )
            study.annotations.append(
                Annotation(entry.name, None, True, [[0, 0], [0, 160], [60, 160], [60, 0]])
            )
        encode, probe = study.settings.encode, study.settings.probe
        encode.size_px, encode.mpp, encode.stride_px = 64, MPP, 32
        probe.permutations, probe.n_bootstrap = 1, 20
        study.settings.adapt.train_on = ["S1"]
        study.save()
    return study.folder


def test_run_says_what_the_controls_are_worth(command, small_study):
    from napari_batchfx.study import Study

    result = command("run", small_study)
    assert result.exit_code == 0, result.stderr
    with Study.open(small_study) as study:
        probe, adapt = study.results.probe.result, study.results.adapt
    verdict = adapt.numbers["diagnostics"]["verdict"]
    assert verdict != "usable"
    assert f"controls: {verdict}\n" in result.stdout
    for warning in (*probe.warnings, *adapt.warnings):
        assert f"Mind: {warning}" in result.stdout
    assert any("control samples are" in warning for warning in adapt.warnings)


def test_results_are_said_where_they_can_t_be_kept(command, small_study):
    """A file in the place of the folder for results: nothing can be written, whoever runs the test."""
    results = small_study / "results"
    if results.is_dir():
        results.rmdir()
    results.write_text("in the way")
    result = command("run", small_study)
    assert result.exit_code == 1
    assert "probe: " in result.stdout
    assert "tiles changed" in result.stdout
    assert "s.batchfx: the study can't be saved" in result.stderr
    adapted = command("adapt", small_study)
    assert adapted.exit_code == 1
    assert "tiles changed" in adapted.stdout
    assert "s.batchfx: the study can't be saved" in adapted.stderr
    probed = command("probe", small_study)
    assert probed.exit_code == 1
    assert "balanced accuracy" in probed.stdout
    assert "s.batchfx: the study can't be saved" in probed.stderr


def test_moved_slides_are_named_and_found_again(command, small_study):
    assert command("run", small_study).exit_code == 0
    elsewhere = small_study.parent / "elsewhere"
    elsewhere.mkdir()
    moved = [(small_study.parent / name).rename(elsewhere / name) for name in ("A.tif", "B.tif")]
    for how in ("probe", "adapt"):
        lost = command(how, small_study)
        assert lost.exit_code == 1
        assert "s: can't find A.tif, B.tif where the study had them" in lost.stderr
        assert "encode first" not in lost.stderr
    found = command("add", small_study, *moved)
    assert found.exit_code == 0, found.stderr
    assert found.stdout == "A: found again\nB: found again\n"
    assert command("add", small_study, moved[0]).stdout == "A: there already\n"
    again = command("run", small_study)
    assert again.exit_code == 0, again.stderr
    assert "encoded: 0 tiles (162 there already), 2 slides" in again.stdout


def test_add_makes_a_study_and_takes_a_pixel_size(command, slides, tmp_path):
    from PIL import Image

    from napari_batchfx.study import Study

    Image.new("RGB", (300, 300), (200, 120, 180)).save(tmp_path / "p.png")
    study = tmp_path / "new.batchfx"
    first = command("add", study, slides[0], tmp_path / "p.png", tmp_path / "missing.svs")
    assert first.exit_code == 3
    assert first.stdout == "A: added\np: added\n"
    assert "missing.svs: there is no such file" in first.stderr
    assert "1 of 3 slides failed; the others are done." in first.stderr
    none = command("add", study, tmp_path / "missing.svs", tmp_path / "gone.svs")
    assert none.stderr.endswith("2 of 2 slides failed.\n")
    assert command("add", study, tmp_path / "p.png", "--mpp", 0.5).exit_code == 0
    with Study.open(study) as work:
        assert [entry.mpp_given for entry in work.slides] == [None, (0.5, 0.5)]


def test_a_slide_given_twice_is_encoded_once(command, slides, tmp_path):
    copy = shutil.copy(slides[0], tmp_path / "copy.tif")
    out = tmp_path / "t.h5ad"
    result = command(
        "embed", slides[0], slides[1], slides[0], copy, "-o", out, "--tile-px", 64, "--tile-mpp", MPP
    )
    assert result.exit_code == 0, result.stderr
    assert "A.tif is the same slide as A; it is encoded once." in result.stderr
    assert "copy.tif is the same slide as A; it is encoded once." in result.stderr
    assert "50 tiles, 2 slides" in result.stderr


def test_what_embed_can_t_do_is_said_before_it_starts(command, slides, tmp_path):
    tiles = ("--tile-px", 64, "--tile-mpp", MPP)
    assert command("embed", slides[0], "-o", tmp_path / "t.csv", *tiles).exit_code == 2
    assert not (tmp_path / "t.csv").exists()
    long = command("embed", slides[0], "-o", tmp_path / ("a" * 300 + ".h5ad"), *tiles)
    assert long.exit_code == 1
    assert one_sentence(long.stderr)
    assert "name too long" in long.stderr
    assert len(long.stderr) < 200
    device = command("embed", slides[0], "-o", tmp_path / "t.h5ad", "--device", "foo", *tiles)
    assert device.exit_code == 1
    assert one_sentence(device.stderr)
    assert 'There is no device "foo"' in device.stderr
    assert not (tmp_path / "t.h5ad").exists()


@pytest.mark.parametrize("how", ["info", "embed", "probe", "run", "report", "adapt", "add"])
def test_a_name_that_is_too_long_is_one_sentence(command, tmp_path, how):
    name = tmp_path / ("a" * 300 + ".batchfx")
    more = {"embed": ("-o", tmp_path / "t.h5ad"), "add": (tmp_path / "none.svs",)}.get(how, ())
    result = command(how, name, *more)
    assert result.exit_code == 1
    assert one_sentence(result.stderr)
    assert "too long" in result.stderr
    assert "should not happen" not in result.stderr


def test_random_weights_are_said(command, slides, tmp_path):
    result = command(
        "embed",
        slides[0],
        "-o",
        tmp_path / "t.h5ad",
        "--encoder",
        "test_vit?pretrained=false",
        "--tile-px",
        160,
        "--tile-mpp",
        MPP,
    )
    assert result.exit_code == 0, result.stderr
    assert "Mind: test_vit (random weights): random weights, nothing was learned" in result.stderr


def test_a_missing_pixel_size_is_asked_for_in_the_words_of_the_command(command, tmp_path):
    from PIL import Image

    Image.new("RGB", (300, 300), (200, 120, 180)).save(tmp_path / "p.png")
    common = ("embed", tmp_path / "p.png", "-o", tmp_path / "t.h5ad", "--study", tmp_path / "s")
    tiles = ("--tile-px", 64, "--tile-mpp", 0.5, "--min-tissue", 0)
    lost = command(*common, *tiles)
    assert lost.exit_code == 1
    assert "--mpp" in lost.stderr
    assert "mpp=" not in lost.stderr
    given = command(*common, *tiles, "--mpp", 0.5)  # the study knows the slide by now
    assert given.exit_code == 0, given.stderr


def test_a_column_that_is_not_there_names_those_that_are(command, slides, tmp_path):
    out = tmp_path / "t.h5ad"
    assert command("embed", *slides, "-o", out, "--tile-px", 64, "--tile-mpp", MPP).exit_code == 0
    for option in ("--batch", "--group"):
        result = command("probe", out, option, "foo")
        assert result.exit_code == 1
        assert one_sentence(result.stderr)
        assert f"give {option} one of slide." in result.stderr  # the other columns hold nothing


@pytest.fixture
def damaged(tmp_path):
    """Sixteen stored tiles all over tissue, one of them without its pixels; the small levels are whole."""
    import tifffile

    rng = np.random.default_rng(5)
    image = np.clip(rng.normal((180, 90, 150), 30, (512, 512, 3)), 0, 255).astype(np.uint8)
    path = write_pyramid(tmp_path / "torn.tif", image, 0.5, tile=128, levels=[1, 2, 4, 8, 16])
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, count = page.dataoffsets[5], page.databytecounts[5]
    data = bytearray(path.read_bytes())
    data[start : start + count] = bytes(count)
    path.write_bytes(data)
    return path


def test_damaged_tiles_are_said(command, damaged, tmp_path):
    from napari_batchfx.study import Study

    said = "torn: 4 tiles are damaged in the file and left out."
    tiles = ("--tile-px", 64, "--tile-mpp", 0.5)
    first = command("embed", damaged, "-o", tmp_path / "t.h5ad", *tiles)
    assert first.exit_code == 0, first.stderr
    assert said in first.stderr
    assert "60 tiles" in first.stderr
    study = tmp_path / "s.batchfx"
    with Study.create(study) as work:
        work.add_slide(damaged)
        work.settings.encode.size_px, work.settings.encode.mpp = 64, 0.5
        work.save()
    for _ in range(2):
        ran = command("run", study)
        assert "4 damaged and left out" in ran.stdout
        assert said in ran.stdout


def test_prepare_makes_and_deletes_small_levels(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHFX_PREPARED", str(tmp_path / "kept"))
    image = np.tile(np.arange(250, dtype=np.uint8)[None, :, None], (2100, 9, 3))
    path = write_pyramid(tmp_path / "one.tif", image, 0.5, levels=1)
    done = CliRunner().invoke(app, ["prepare", str(path)])
    assert done.exit_code == 0
    assert "one: prepared" in done.output
    assert any((tmp_path / "kept").rglob("*"))
    done = CliRunner().invoke(app, ["prepare", "--clear", str(tmp_path / "none.tif")])
    assert done.exit_code != 0
    assert "none.tif" in done.output
    assert "prepared in all: 0.0 MB" in done.output


def test_tile_says_what_the_model_saw(command, small_study, tmp_path):
    from PIL import Image

    from napari_batchfx.study import Study, saw
    from napari_batchfx.study.seen_tile import PROVENANCE_CHUNK

    assert "choose a slide with --slide; there are A, B" in command("tile", small_study, 1, 2).stderr
    png = tmp_path / "tile.png"
    found = command("tile", small_study, 1, 2, "--slide", "B", "--out", png)
    assert found.exit_code == 0, found.stderr
    with Study.open(small_study) as study:
        tile = saw(study, "B", (1, 2))
    assert found.stdout.strip() == tile.text()
    assert "row 1, column 2" in found.stdout
    assert "slide: B" not in found.stdout
    assert "slide: B" in command("tile", small_study, 1, 2, "--slide", "B", "--names").stdout
    with Image.open(png) as picture:
        assert json.loads(picture.text[PROVENANCE_CHUNK]) == tile.to_dict()
        pixels = np.asarray(picture)
    assert (pixels[12 : 12 + 64, 12 : 12 + 64] == tile.as_read).all()


def test_tile_of_a_file_with_choices_of_its_own(command, slides):
    chosen = ("--tile-px", 64, "--tile-mpp", 0.4, "--normalizer", "reinhard", "--json")
    found = command("tile", slides[0], 0, 1, *chosen)
    assert found.exit_code == 0, found.stderr
    said = json.loads(found.stdout)
    assert said["cell"] == [0, 1]
    assert said["bounds_um"] == pytest.approx([0, 25.6, 25.6, 51.2])
    assert said["provenance"]["stain"] == "Reinhard, strength 1"
    assert said["provenance"]["read from"].endswith("resampled to 0.4 µm/px (0.8 to 1)")
    assert not said["stored"]


def test_tile_changes_no_study(command, small_study):
    def content():
        return {p: p.read_bytes() for p in small_study.rglob("*") if p.is_file()}

    assert command("tile", small_study, 0, 0, "--slide", "A").exit_code == 0  # an empty store is made
    before = content()
    found = command(
        "tile", small_study, 0, 0, "--slide", "A", "--encoder", "colour-statistics", "--tile-px", 48
    )
    assert found.exit_code == 0, found.stderr
    assert content() == before


def test_what_tile_can_t_show_is_one_sentence(command, small_study, slides, tmp_path):
    for arguments in (
        (small_study, 99, 0, "--slide", "A"),
        (small_study, 0, 0, "--slide", "nobody"),
        (slides[0], 0, 0, "--out", tmp_path / "no" / "where.png"),
        (slides[0], 0, 0, "--encoder", "no-such-encoder"),
        (tmp_path / "nothing.svs", 0, 0),
    ):
        found = command("tile", *arguments)
        assert found.exit_code == 1
        assert one_sentence(found.stderr)
    assert command("tile", slides[0], 0, 0, "--normalizer", "magic").exit_code == 2
