import pytest

from .made import made_table as _made_table


@pytest.fixture
def made_table():
    return _made_table
