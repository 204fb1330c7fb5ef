"""The registry is what docks, command line and settings read: it holds what they need, and no two the same."""

import pydantic
import pytest

from napari_batchfx import adapt
from napari_batchfx.adapt import METHODS, REGISTRY, Correction
from napari_batchfx.errors import AdaptError
from napari_batchfx.report.citations import CITATIONS
from napari_batchfx.study import AdaptSettings
from napari_batchfx.viewer.texts import METHODS as SHOWN


def test_every_method_says_what_it_is():
    assert tuple(REGISTRY) == METHODS
    for one in REGISTRY.values():
        assert one.needs in ("controls", "pairs", "nothing")
        assert isinstance(one.make(), Correction)
        assert one.make() is not one.make()
        assert one.sentence.endswith(".")
        assert one.label == one.label.strip()
        assert set(one.works) <= set(CITATIONS)
        assert type(one.make()).kind == one.kind.kind
    for words in ("label", "name", "sentence"):
        assert len({getattr(one, words) for one in REGISTRY.values()}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_settings_and_dock_take_what_the_registry_has(method):
    assert AdaptSettings(method=method).method == method
    assert SHOWN[method] == REGISTRY[method].label


def test_anything_else_is_refused_with_what_there_is():
    with pytest.raises(pydantic.ValidationError, match=r"choose of standardize, "):
        AdaptSettings(method="magic")
    with pytest.raises(AdaptError, match=r"called 'magic'; there are standardize, "):
        adapt.make_correction("magic")
    own = adapt.TVN()
    assert adapt.make_correction(own) is own
