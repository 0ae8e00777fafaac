"""What every room's tests share: one thread, real CT where it lies, and a tiny model on the disk."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is slow, not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Small arrays on few cores: threads that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REAL_CT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The folder of real CT, which is never part of the repository."""
    if not REAL_CT.is_dir():
        pytest.skip(f"no real CT in {REAL_CT}")
    return REAL_CT


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """An untrained bundle on the disk."""
    from maxquery.bundle import save_bundle

    from .maxquery.networks import tiny_bundle

    return save_bundle(tiny_bundle(), tmp_path_factory.mktemp("models") / "tiny")
