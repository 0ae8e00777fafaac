"""What every room's tests share: one thread, and a tiny model on the disk."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is slow, not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Small arrays on few cores: threads that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """An untrained bundle on the disk."""
    from maxquery.bundle import save_bundle

    from .maxquery.networks import tiny_bundle

    return save_bundle(tiny_bundle(), tmp_path_factory.mktemp("models") / "tiny")
