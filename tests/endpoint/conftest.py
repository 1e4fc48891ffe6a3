"""An endpoint that has a good day, for all tests of a file."""

import pytest
from sim_client import serving


@pytest.fixture(scope="module")
def plain():
    with serving() as port:
        yield port
