"""The benchmark itself: who is tested on what, what a bar is judged on, going on where it stopped."""

import json

import numpy as np
import pytest
from tests.adapt.heads.worlds import make_world
from tests.conftest import DATA
from typer.testing import CliRunner

from napari_batchfx.adapt import MLPHead, TrainingSettings
from napari_batchfx.benchmark import adapt as benchmark
from napari_batchfx.benchmark.mitoses_data import Mitoses, load_mitoses, split
from napari_batchfx.benchmark.mitoses_network import shifted_batches
from napari_batchfx.benchmark.on_features import Fitted, as_table
from napari_batchfx.benchmark.page import results_of, results_page
from napari_batchfx.benchmark.scanners import eight_scanners
from napari_batchfx.benchmark.summary import mean_interval, mitoses_table, out_of_scanner_bar
from napari_batchfx.benchmark.tent import tent
from napari_batchfx.cli import app
from napari_batchfx.errors import SampleError


def few(n=360):
    """Mitoses without pixels: three scanners, ten patients each."""
    scanner = np.repeat(np.array(["A", "B", "C"], object), n // 3)
    patient = np.array([f"{s}{i % 10}" for i, s in enumerate(scanner)], object)
    label = np.where(np.arange(n) // 10 % 3 == 0, "atypical", "normal").astype(object)
    return Mitoses(np.zeros((n, 8, 8, 3), np.uint8), label, scanner, patient, patient)


@pytest.mark.parametrize("seed", [0, 1])
def test_patients_are_apart_and_controls_are_normal_mitoses_of_others(seed):
    data = few()
    at = split(data, "B", seed)
    assert set(data.scanner[at.train]) == {"A", "C"}
    trained = set(data.patient[at.train])
    tested = np.concatenate([rows for where, rows, _ in at.domains if where == "out"])
    assert sorted(tested) == sorted(np.flatnonzero(data.scanner == "B"))  # every tile once
    for _, rows, controls in at.domains:
        assert not set(data.patient[rows]) & trained
        assert not set(data.patient[rows]) & set(data.patient[controls])
        assert set(data.label[controls]) == {"normal"}
        assert len(set(data.scanner[np.concatenate([rows, controls])])) == 1


def test_shifted_batches_hold_uneven_classes():
    y = np.arange(200) % 2
    shares = [y[b].mean() for s in range(30) for b in shifted_batches(y, np.arange(200), s)]
    assert np.mean([abs(s - 0.5) > 0.4 for s in shares]) > 0.5


def run_of(y, right, flip):
    """A run whose "erm" is right on ``right`` of the tiles and whose "csarmbn" on all but ``flip``."""
    rng = np.random.default_rng(0)
    runs = {}
    for method, share in (("erm", right), ("csarmbn", 1 - flip)):
        rows = []
        for where in ("in", "out"):
            hit = rng.random(len(y)) < (share if where == "out" else 0.9)
            rows += [
                [where, i, float(c if h else 1 - c)] for i, (c, h) in enumerate(zip(y, hit, strict=True))
            ]
        runs[method] = {"natural": rows, "shifted": [r for r in rows if r[0] == "out"]}
    return runs


def test_the_bar_needs_a_gain_an_interval_above_zero_and_nothing_lost_inside():
    y = np.arange(400) % 2
    patient = np.array([f"p{i % 40}" for i in range(400)], object)
    table = mitoses_table([run_of(y, 0.6, 0.1)], y, patient)
    assert table["erm"]["out"]["value"] == pytest.approx(0.6, abs=0.08)
    assert table["erm"]["out"]["minus_erm"] == 0
    bar = out_of_scanner_bar(table, ["csarmbn", "not run"])
    assert bar["method"] == "csarmbn"
    assert bar["gain"] == pytest.approx(0.3, abs=0.1)
    assert bar["gain_ci"][0] > 0.1
    assert bar["met"] == (bar["in"] >= 0)
    small = mitoses_table([run_of(y, 0.88, 0.1)], y, patient)
    assert not out_of_scanner_bar(small, ["csarmbn"])["met"]


def test_intervals_over_runs():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.302653 / 3**0.5)  # t quantile, two degrees of freedom
    assert low == pytest.approx(2 * mean - high)


def test_no_label_of_what_is_tested_is_read():
    world, new = make_world(["a", "b", "c"], seed=1), make_world(["d"], seed=2)
    methods = ("erm", "standardize", "mlp", "tent", "adabn", "csarmbn")
    fitted = Fitted(world, 0, methods)
    planted = new.copy()
    planted.obs["label"] = "class 0"
    for method in methods:
        assert np.array_equal(fitted.predict(new, method, 64), fitted.predict(planted, method, 64)), method


def test_tent_lowers_the_entropy_and_leaves_the_head_as_it_is():
    world, new = make_world(["a", "b"], seed=1), make_world(["d"], seed=2)
    head = MLPHead(TrainingSettings(steps=20, hidden=(16, 8))).fit(world)
    before = {k: v.copy() for k, v in head._weights.items()}
    x, rows = np.asarray(new.X), np.arange(new.n_obs)

    def entropy(steps):
        p = tent(head, x, rows, 500, 0, steps)
        return float(-(p * np.log(p + 1e-12)).sum(1).mean())

    assert entropy(20) < entropy(0)
    assert all(np.array_equal(before[k], head._weights[k]) for k in before)


def test_eight_scanners_differ_and_are_the_same_every_time():
    one, two = eight_scanners(), eight_scanners()
    assert len(one) == 8
    assert one == two
    flat = np.full((4, 4, 2), 0.6, np.float32)
    colours = np.array([s.with_(noise=0, blur_um=0).render(flat)[0, 0] for s in one.values()], float)
    apart = np.abs(colours[:, None] - colours[None]).max(-1) + 99 * np.eye(8)
    assert apart.min() > 1


def test_a_benchmark_goes_on_where_it_stopped(tmp_path, monkeypatch):
    ran = []

    def pieces(data, work, seeds):
        def one(k):
            ran.append(k)
            yield benchmark.Progress(0, 1, "x")
            if k == 1 and len(ran) == 2:
                raise KeyboardInterrupt
            return {"seed": k}

        yield benchmark.Progress(0, 1, "x")
        return [(str(k), lambda k=k: one(k)) for k in range(seeds)]

    monkeypatch.setitem(benchmark._PIECES, "pair", pieces)
    with pytest.raises(KeyboardInterrupt):
        list(benchmark.adapt_benchmark_job(tmp_path, tmp_path, seeds=3, parts=["pair"]))
    list(benchmark.adapt_benchmark_job(tmp_path, tmp_path, seeds=3, parts=["pair"]))
    assert ran == [0, 1, 1, 2]
    assert benchmark.load_pieces(tmp_path)["pair"] == {str(k): {"seed": k} for k in range(3)}
    # of other weights: made again
    monkeypatch.setattr(benchmark, "mini_version", lambda: 99)
    assert benchmark.load_pieces(tmp_path)["pair"] == {}
    with pytest.raises(SampleError, match="no part 'mitosis'"):
        list(benchmark.adapt_benchmark_job(tmp_path, tmp_path, parts=["mitosis"]))


def test_the_command_writes_numbers_and_page_from_the_pieces(tmp_path):
    work = benchmark.piece_folder(tmp_path / "work", "pair")
    work.mkdir(parents=True)
    rows = [[w, i, int(i % 3 > 0 or w == "in"), 0] for w in ("in", "out") for i in range(60)]
    (work / "0__0.json").write_text(json.dumps({"erm": {"natural": rows}, "csarmbn": {"natural": rows}}))
    call = [
        "benchmark",
        "adapt",
        "--only-page",
        "--work",
        str(tmp_path / "work"),
        "--results",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "adapt.md").read_text("utf-8")
    assert "| CS-ARM-BN | 1.000 (1.000–1.000) | 0.667 (" in page
    assert "| pair | 1 | 10 |" in page
    assert "batchfx-mini is version 3." in page
    assert "Not every run is done yet" in page
    text = (tmp_path / "out" / "adapt.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["pair"]["erm"]["in"][0] == 1.0


@pytest.mark.real_data
def test_the_mitoses_are_read_at_one_pixel_size(real_data):
    real_data("tiles/mitoses-three-scanners/tiles.csv")
    data = load_mitoses(DATA)
    assert data.tiles.shape == (1094, 96, 96, 3)
    assert {s: int((data.scanner == s).sum()) for s in set(data.scanner)} == {
        "Aperio_CS2": 402,
        "Hamamatsu_S360": 357,
        "Hamamatsu_XR": 335,
    }
    assert results_page(results_of({p: {} for p in benchmark.PARTS}, DATA)).startswith(
        "# What adaptation reaches"
    )


def test_a_table_of_the_benchmark_takes_a_domain_for_all_rows():
    table = as_table(np.zeros((2, 3)), np.array(["a", "b"]), "here", np.zeros(2, bool), np.array(["1", "2"]))
    assert list(table.obs["site"]) == ["here", "here"]
