import pytest
from tests.study.conftest import slide_files  # noqa: F401  # a fixture

from .made import made_table as _made_table


@pytest.fixture
def made_table():
    return _made_table
