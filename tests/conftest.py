"""What every test shares: trio under anyio's plugin, virtual time on request, hypothesis profiles, honest skips.

Fixtures that start processes, cages or browsers live in the folder that uses them.
"""

import os

import pytest
import trio.testing
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=60,
    deadline=None,  # a busy machine is not a defect
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=300)
settings.register_profile("search", settings.get_profile("thorough"), derandomize=False, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Trio; a test marked `virtual_time` never waits: its clock jumps as soon as every task sleeps."""
    if request.node.get_closest_marker("virtual_time"):
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "trio", {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: run ./hive test as root")
