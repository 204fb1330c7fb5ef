"""A projection gives a tile the same bits in every batch, and the numbers of the plain layer."""

from __future__ import annotations

import numpy as np
import torch

from napari_batchfx.encoders.row_linear import RowLinear


def test_a_row_is_the_same_in_every_batch_and_close_to_the_plain_layer():
    torch.manual_seed(0)
    plain = torch.nn.Linear(1280, 96)
    rows = RowLinear(1280, 96)
    rows.load_state_dict(plain.state_dict())
    x = torch.randn(33, 1280)
    with torch.inference_mode():
        whole = rows(x)
        for size in (1, 2, 7, 32):
            parts = torch.cat([rows(part) for part in x.split(size)])
            assert torch.equal(whole, parts), size
        assert np.allclose(whole, plain(x), atol=1e-5)
        assert rows(x[:0]).shape == (0, 96)
