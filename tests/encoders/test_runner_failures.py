"""What goes wrong in the middle of a job: a full memory, a model that fails, a slide or a card that is gone."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.encoders import EncoderMemoryError, encode
from napari_batchfx.encoders.timm_encoder import TimmEncoder
from napari_batchfx.errors import BatchfxError, EncoderError
from napari_batchfx.slides import open_slide
from napari_batchfx.tiles import TileGrid, read_tiles

CONFIG = {"input_size": (3, 64, 64), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.25,) * 3}


class Net(torch.nn.Module):
    """Means over a grid of 4 x 4 fields; before that it does what ``trouble`` says for a batch of n tiles."""

    def __init__(self, trouble=lambda n: None):
        super().__init__()
        self.sizes, self.trouble = [], lambda n: None
        self.layer = torch.nn.Linear(48, 5)
        torch.nn.init.ones_(self.layer.bias)
        self.later = trouble

    def forward(self, x):
        self.sizes.append(len(x))
        self.trouble(len(x))
        return self.layer(torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))


def encoder_of(model, threads=1):
    torch.manual_seed(0)
    encoder = TimmEncoder(
        model,
        name="Net",
        identity="net",
        weights_hash="0" * 64,
        data_config=CONFIG,
        assembly="pooled",
        device="cpu",
        precision="fp32",
        mpp=0.5,
        licence="",
        threads=threads,
    )
    encoder.most_at_once = 32
    model.sizes.clear()
    model.trouble = model.later  # a card that is full when the model loads is another story
    return encoder


@pytest.fixture
def alone(monkeypatch):
    """The model gets whole batches, as on a graphics card."""
    from napari_batchfx.encoders import timm_encoder

    monkeypatch.setattr(timm_encoder, "CPU_PIECE", 999)


def full_above(most):
    def trouble(n):
        if n > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return trouble


def gather(job):
    """Cells and vectors that a job yields, and the error that ended it."""
    batches, error = [], None
    try:
        batches.extend(p.partial for p in job if p.partial is not None)
    except BatchfxError as caught:
        error = caught
    cells = [b.cells for b in batches] or [np.empty((0, 2), int)]
    features = [b.features for b in batches] or [np.empty((0, 5), np.float32)]
    return np.concatenate(cells), np.concatenate(features), error


def ours():
    names = ("batchfx-encode", "batchfx-tiles")
    return [t for t in threading.enumerate() if t.name.startswith(names)]


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    assert not ours()


@settings(max_examples=12, deadline=None)
@given(
    most=st.integers(1, 40), batch_size=st.one_of(st.none(), st.integers(1, 40)), threads=st.integers(1, 3)
)
def test_no_tile_is_lost_or_doubled_by_a_full_memory(tissue_file, most, batch_size, threads):
    from napari_batchfx.encoders import timm_encoder

    with open_slide(tissue_file) as slide, pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_encoder, "CPU_PIECE", 999)
        grid = TileGrid(slide, size_px=64, mpp=0.5)
        cells = np.random.default_rng(most).permutation(grid.all_cells())[:70]
        encoder = encoder_of(Net(full_above(most)), threads)
        got, features, error = gather(encode(grid, encoder, cells, batch_size=batch_size))
        assert error is None
        np.testing.assert_array_equal(got, cells)
        encoder._model.trouble = lambda n: None
        np.testing.assert_allclose(features, encoder.embed(read_tiles(grid, cells)), rtol=1e-4, atol=1e-5)


def test_a_memory_that_was_full_for_a_moment_costs_no_speed_later(grid, alone):
    model = Net()
    encoder = encoder_of(model)
    full = iter([True, True])

    def trouble(n):
        if next(full, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.trouble = trouble
    cells = np.concatenate([grid.all_cells()] * 2)[:220]
    got, _, error = gather(encode(grid, encoder, cells, batch_size=16))
    assert error is None
    np.testing.assert_array_equal(got, cells)
    assert model.sizes[:3] == [16, 8, 4]
    assert max(model.sizes[3:19]) == 4
    assert max(model.sizes[19:]) == 16


@pytest.mark.parametrize("threads", [1, 2])
def test_one_tile_that_does_not_fit(grid, alone, threads):
    encoder = encoder_of(Net(full_above(0)), threads)
    got, _, error = gather(encode(grid, encoder, grid.all_cells()[:9]))
    assert isinstance(error, EncoderMemoryError)
    assert "Net: not enough memory on cpu for 1 tiles" in str(error)
    assert len(got) == 0


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied\n(8x9)"), "the model failed on a batch of"),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"),
            r"the graphics card failed \(CUDA error: an illegal memory access was encountered\).*are kept",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
            "not enough memory",
        ),
        (MemoryError(), "not enough memory"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_that_fails_in_the_middle(grid, raised, said, threads):
    """Everything before the failing batch is there, in order, and right; one sentence says what happened."""
    model = Net()
    encoder = encoder_of(model, threads)
    tiles_seen = []
    lock = threading.Lock()

    def trouble(n):
        with lock:
            tiles_seen.append(n)
            if sum(tiles_seen) > 60:
                raise raised

    model.trouble = trouble
    cells = grid.all_cells()
    got, features, error = gather(encode(grid, encoder, cells))
    assert isinstance(error, EncoderError)
    assert error.args[0].startswith("Net: ")
    assert "\n" not in str(error)
    with pytest.raises(EncoderError, match=said):
        raise error
    assert 16 <= len(got) < len(cells)
    np.testing.assert_array_equal(got, cells[: len(got)])
    model.trouble = lambda n: None
    np.testing.assert_array_equal(features, encoder.embed(read_tiles(grid, got)))


def test_a_slide_that_is_closed_in_the_middle(tissue_file):
    """What was read before it is encoded; the sentence is the slide's."""
    slide = open_slide(tissue_file)
    grid = TileGrid(slide, size_px=64, mpp=0.5)
    job = encode(grid, encoder_of(Net(), 2), grid.all_cells())
    while (step := next(job)).partial is None:
        pass
    slide.close()
    rest, _, error = gather(job)
    assert "A-1042" in str(error)
    assert "closed" in str(error)
    got = np.concatenate([step.partial.cells, rest])
    assert 0 < len(got) < grid.n_cells
    np.testing.assert_array_equal(got, grid.all_cells()[: len(got)])


def test_an_encoder_that_is_closed_in_the_middle(grid):
    encoder = encoder_of(Net(), 2)
    job = encode(grid, encoder, grid.all_cells())
    while next(job).partial is None:
        pass
    encoder.close()
    _, _, error = gather(job)
    assert "the encoder is closed; load it again" in str(error)


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_the_job_in_the_middle_of_a_batch(grid, threads):
    """The batch that runs ends, none begins after it, and every thread is gone when ``close`` comes back."""
    model = Net()
    encoder = encoder_of(model, threads)
    armed, running, go = threading.Event(), threading.Event(), threading.Event()

    def trouble(n):
        if armed.wait(0.3):  # every batch takes a while, so that lanes don't overtake each other
            running.set()
            assert go.wait(5)

    model.trouble = trouble
    job = encode(grid, encoder, grid.all_cells(), batch_size=4)
    for _ in range(3):  # the start and two batches
        next(job)
    armed.set()
    assert running.wait(5)
    closing = threading.Timer(0.05, go.set)
    closing.start()
    job.close()
    closing.join()
    assert not ours()
    # each lane was in one batch at most
    assert len(model.sizes) <= 2 + threads


def test_a_normaliser_that_fails_is_the_jobs_error(grid):
    class Broken:
        key = "broken"

        def transform(self, tiles):
            raise EncoderError("broken: no stain found.")

    _, _, error = gather(encode(grid, encoder_of(Net(), 2), grid.all_cells(), normalizer=Broken()))
    assert str(error) == "broken: no stain found."


def test_few_batches_are_under_way(grid):
    """However many cells there are: with a caller who takes his time, reading and the model wait for him."""
    model = Net()
    job = encode(grid, encoder_of(model, 2), grid.all_cells(), batch_size=2)
    while next(job).partial is None:
        pass
    threading.Event().wait(0.2)
    # four under way and the one given
    assert sum(model.sizes) <= 2 * 5


def test_half_precision_overflow_is_repaired_tile_by_tile(grid):
    """A tile that overflows fp16 runs again in fp32; its neighbours keep their own numbers."""

    class Overflows(Net):
        def forward(self, x):
            y = super().forward(x)
            return torch.where((y > y.median()) & torch.tensor(self.half), torch.inf, y)

    model = Overflows()
    model.half = False
    encoder = encoder_of(model)
    tiles = read_tiles(grid, grid.all_cells()[:8])
    exact = encoder.embed(tiles)
    run = encoder._run_in

    def run_in(some, precision):
        model.half = precision == "fp16"
        return run(some, "fp32")

    encoder._run_in = run_in
    encoder.precision = "fp16"
    np.testing.assert_array_equal(encoder.embed(tiles), exact)
    assert sum("fp16 overflowed" in note for note in encoder.warnings) == 1
