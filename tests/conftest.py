"""What several rooms' tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)  # pytest-xdist says 80 to its workers, and tables obey
os.environ.setdefault("GOMP_SPINCOUNT", "0")  # before torch loads: spinning threads starve others
os.environ.setdefault("OMP_NUM_THREADS", "1")  # bits are compared, and workers share the cores

# A busy machine takes seconds over what takes half a millisecond elsewhere: no fault of the code.
settings.register_profile(
    "busy machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def math_observations():
    """The demo model, observed on its math demonstrations in float32."""
    import easyep

    return easyep.observe("demo", domain="math", mtp="score", dtype="float32", batch_size=8)


@pytest.fixture(scope="session")
def pruned(tmp_path_factory):
    """The demo model, pruned for math to half of its experts, its MTP layer included."""
    import easyep

    folder = tmp_path_factory.mktemp("pruned")
    return easyep.prune(
        "demo",
        domain="math",
        keep=0.5,
        mtp="score",
        dtype="float32",
        batch_size=8,
        output=folder / "demo-math",
        work_dir=folder / "work",
    )
