"""Options of the whole suite. That this file is here also puts `tests/` on the path, for `builders`."""

from __future__ import annotations

import pytest


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
