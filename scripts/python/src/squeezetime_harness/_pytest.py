"""The pytest fixture `assert_port_matches`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._compare import Result


@pytest.fixture
def assert_port_matches() -> Callable[..., Result]:
    """A function that compares a port as `squeezetime_harness.compare` does, and fails with its table.

        def test_my_port(assert_port_matches):
            assert_port_matches(make_model(), weights="k400.pth")
    """
    from ._compare import compare

    def check(model: Any, weights: Any = None, **flags: Any) -> Result:
        __tracebackhide__ = True
        result = compare(model, weights, **flags)
        if not result.passed:
            pytest.fail(str(result), pytrace=False)
        return result

    return check
