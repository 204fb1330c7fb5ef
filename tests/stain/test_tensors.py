"""The torch transform is the kernel's, on tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_batchfx.errors import StainError
from napari_batchfx.stain import MacenkoNormalizer, StainTransform, estimate, methods
from napari_batchfx.stain.tensors import transform_tensor

from .test_transform import IMAGES, TRANSFORMS

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@settings(max_examples=60, deadline=None)
@given(TRANSFORMS, IMAGES, st.booleans())
def test_both_agree_to_one_grey_level(transform, image, published):
    transform = StainTransform(transform.source, transform.target, transform.strength, published)
    out = transform_tensor(transform, torch.from_numpy(image)).numpy()
    np.testing.assert_array_equal(
        transform.transform_tensor(torch.from_numpy(image)).numpy(), transform.transform(image)
    )
    assert np.abs(out.astype(int) - transform.transform(image)).max() <= 1
    assert np.abs(out - transform.transform_float(image)).max() <= 0.6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [one.id for one in methods()])
def test_every_method_on_real_colours(tissue, name, device):
    """All 8-bit colours along the cube's grid, and tissue, for each method's own transform."""
    made = next(one for one in methods() if one.id == name).normalizer()
    transform = made.from_source(estimate(tissue, name))
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3, indexing="ij"), axis=-1)
    grid = grid.reshape(-1, 52, 3)
    for image in (grid, tissue):
        out = transform_tensor(transform, torch.from_numpy(image.copy()).to(device))
        assert out.device.type == device
        assert np.abs(out.cpu().numpy().astype(int) - transform.transform(image)).max() <= 1


def test_colours_may_come_first(tissue):
    transform = MacenkoNormalizer().from_source(estimate(tissue))
    batch = torch.from_numpy(tissue)[None].repeat(2, 1, 1, 1)
    first = transform.transform_tensor(batch.permute(0, 3, 1, 2).contiguous(), channels_first=True)
    assert torch.equal(first.permute(0, 2, 3, 1), transform_tensor(transform, batch))


def test_strength_zero_copies_and_wrong_tensors_are_refused(tissue):
    transform = MacenkoNormalizer(strength=0.0).from_source(estimate(tissue))
    batch = torch.from_numpy(tissue)
    out = transform.transform_tensor(batch)
    assert torch.equal(out, batch)
    assert out.data_ptr() != batch.data_ptr()
    for wrong in (batch.float(), batch[..., :2], batch[0, 0]):
        with pytest.raises(StainError, match="8-bit RGB tensors"):
            transform.transform_tensor(wrong)
