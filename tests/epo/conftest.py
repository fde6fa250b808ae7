from __future__ import annotations

from collections.abc import Callable

import pytest
import toy_search

from epo_jax.epo import Algorithm


@pytest.fixture(scope="session")
def toy() -> Callable[..., Algorithm]:
    return toy_search.make_toy
