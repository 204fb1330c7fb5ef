import numpy as np
import pytest

from napari_batchfx.errors import StainError
from napari_batchfx.stain import feature_spread, min_max_auc, prediction_spread


def test_feature_spread_is_the_mean_cosine_distance():
    rng = np.random.default_rng(0)
    stack = rng.normal(size=(4, 7, 5))
    expected = np.zeros(7)
    for i in range(7):
        a = stack[0, i] / np.linalg.norm(stack[0, i])
        expected[i] = np.mean([1 - a @ (b[i] / np.linalg.norm(b[i])) for b in stack[1:]])
    np.testing.assert_allclose(feature_spread(stack), expected)
    np.testing.assert_allclose(feature_spread(stack[[0, 0, 0]]), 0, atol=1e-12)
    stack[2, 3] = 0
    assert np.isnan(feature_spread(stack)[3])


def test_prediction_spread_counts_changes_of_the_call():
    proba = np.array(
        [
            [[0.9, 0.1], [0.6, 0.4], [np.nan, np.nan]],
            [[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]],
            [[0.7, 0.3], [0.9, 0.1], [0.5, 0.5]],
        ]
    )
    found = prediction_spread(proba)
    np.testing.assert_allclose(found.spread[:2], [0.2, 0.5])
    np.testing.assert_allclose(found.changed[:2], [0.0, 0.5])
    assert found.called.tolist() == [0, 0, -1]
    assert np.isnan(found.spread[2])
    assert found.n_changed == 1


def test_min_max_auc_equals_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    truth = rng.random(120) < 0.4
    scores = np.round(rng.normal(size=(3, 120)) + truth * np.array([[1.5], [0.7], [0.1]]), 1)  # with ties
    found = min_max_auc(scores, truth, ["a", "b", "c"], n_bootstrap=200)
    expected = [roc_auc_score(truth, row) for row in scores]
    np.testing.assert_allclose(list(found.auc.values()), expected)
    assert found.value == pytest.approx(max(expected) - min(expected))
    assert found.ci[0] < found.value < found.ci[1]
    assert (found.n, found.n_positive, found.n_groups) == (120, int(truth.sum()), 120)


def test_whole_groups_are_resampled_and_few_are_said():
    truth = np.tile([False, True], 40)
    scores = np.stack([truth * 1.0, np.where(np.arange(80) < 40, truth, ~truth) * 1.0])
    found = min_max_auc(scores, truth, groups=np.repeat(["p", "q"], 40), n_bootstrap=100)
    assert found.n_groups == 2
    # Of two patients either both, one twice or the other twice: nothing between these three.
    assert found.ci == (0.0, 1.0)
    assert "2 groups" in found.warnings[0]


def test_where_nothing_moves_the_range_is_zero():
    truth = np.tile([False, True], 20)
    scores = np.random.default_rng(0).random(40)
    found = min_max_auc([scores, scores], truth, n_bootstrap=50)
    assert (found.value, found.ci) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    "call",
    [
        lambda: feature_spread(np.zeros((1, 4, 3))),
        lambda: prediction_spread(np.zeros((4, 3))),
        lambda: min_max_auc(np.zeros((2, 20)), np.arange(20) < 2),
        lambda: min_max_auc(np.zeros((2, 20)), np.arange(19) < 9),
        lambda: min_max_auc(np.full((2, 20), np.nan), np.arange(20) < 9),
    ],
)
def test_what_means_nothing_is_refused(call):
    with pytest.raises(StainError):
        call()
