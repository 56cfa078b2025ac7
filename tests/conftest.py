"""Options of the whole suite. That this file is here also puts `tests/` on the path, for `builders`."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Machines that run these tests are small and busy: how long an example takes says nothing about the code.
settings.register_profile("provision", deadline=None)
settings.load_profile("provision")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-cases",
        action="store_true",
        help="write what the code says now into tests/cases/*/*/expected.*, to be read and committed",
    )


@pytest.fixture
def update_cases(request: pytest.FixtureRequest) -> bool:
    """Whether expected files are rewritten rather than compared."""
    return bool(request.config.getoption("--update-cases"))
