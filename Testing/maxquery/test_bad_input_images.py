"""What cannot be used is refused with a sentence: what is wrong, what was found, what to do."""

import gzip
import os
import re
import struct
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery import reading
from maxquery.errors import InputError, MachineError
from maxquery.reading import read_case

from .images import ct_array, image_of, write_ct, write_dicom

DATA = Path(__file__).parents[3] / "shared" / "data"


def refusal(*paths: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_case(paths)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert not re.search("Doe|Jane|4711|ITK ERROR|Traceback", str(caught.value))
    return caught.value


def refusal_of(array: np.ndarray, tmp_path: Path) -> InputError:
    return refusal(write_ct(tmp_path / "ct.nii.gz", array))


def nifti_with(tmp_path: Path, layout: str, offset: int, *values) -> Path:
    """An uncompressed NIfTI file with some header fields overwritten."""
    path = write_ct(tmp_path / "ct.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def metaimage(tmp_path: Path, spacing="1 1 1", axes="1 0 0 0 1 0 0 0 1", size="24 20 16") -> Path:
    path = tmp_path / "ct.mha"
    header = ("ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = False\n"
              f"TransformMatrix = {axes}\nOffset = 0 0 0\nElementSpacing = {spacing}\nDimSize = {size}\n"
              "ElementType = MET_SHORT\nElementDataFile = LOCAL\n")
    path.write_bytes(header.encode() + ct_array().tobytes())
    return path


# Files


def test_no_image_at_all():
    assert refusal().code == "no-image"


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "ct.nii.gz").message == "There is no file ct.nii.gz."


def test_an_empty_file(tmp_path):
    for name in ("ct.nii", "ct.nii.gz", "ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd"):
        (tmp_path / name).touch()
        assert refusal(tmp_path / name).message == f"{name} is empty (0 bytes)."


def test_a_file_that_may_not_be_opened(tmp_path, monkeypatch):
    path = write_ct(tmp_path / "ct.nii")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refusal(path).message == "ct.nii cannot be opened: Permission denied."


def test_a_file_of_another_type(tmp_path):
    for name in ("ct.png", "ct.dcm", "ct.zip", "ct"):
        (tmp_path / name).write_bytes(b"something")
        error = refusal(tmp_path / name)
        assert error.message == f"{name} is not of a type that is read here."
        assert ".nii.gz" in error.hint and "DICOM" in error.hint


def test_a_file_that_is_not_what_its_name_says(tmp_path):
    other = {"nii": "mha", "nii.gz": "nrrd", "nrrd": "mha", "nhdr": "nii", "mha": "nrrd", "mhd": "nii"}
    for suffix, truly in other.items():
        path = tmp_path / f"ct.{suffix}"
        path.write_bytes(b"<html>404 Not Found</html>" * 40)
        assert refusal(path).code == "unreadable"
        write_ct(tmp_path / f"other.{truly}").replace(path)
        assert refusal(path).code == "unreadable"


@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_file(tmp_path, compress):
    for suffix in ("nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"):
        (tmp_path / suffix).mkdir()
        path = write_ct(tmp_path / suffix / f"ct.{suffix}", compress=compress)
        holds_voxels = max(path.parent.iterdir(), key=lambda p: p.stat().st_size)
        whole = holds_voxels.read_bytes()
        for kept in (0.97, 0.5, 0.01):
            holds_voxels.write_bytes(whole[: int(len(whole) * kept)])
            error = refusal(path)
            assert error.code in ("truncated", "unreadable")
            assert "incomplete or damaged" in error.message or "incomplete, damaged" in error.message


def test_a_nifti_file_that_misses_its_last_voxel(tmp_path):
    path = write_ct(tmp_path / "ct.nii")
    path.write_bytes(path.read_bytes()[:-2])
    assert refusal(path).message == ("ct.nii is incomplete or damaged: its header announces 15,360 bytes of "
                                     "voxels and the file holds 15,358.")


def test_a_gzip_file_with_a_damaged_byte(tmp_path):
    path = write_ct(tmp_path / "ct.nii.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert refusal(path).code == "truncated"


@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("damage", ["zeros", "a flipped byte"])
def test_compressed_voxels_that_are_damaged(tmp_path, suffix, damage):
    path = write_ct(tmp_path / f"ct.{suffix}", compress=True)
    holds_voxels = max(tmp_path.iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(holds_voxels.read_bytes())
    middle = len(content) // 2
    if damage == "zeros":
        content[middle:] = bytes(len(content) - middle)  # as a copy that was cut short leaves it on some disks
    else:
        content[middle] ^= 0xFF
    holds_voxels.write_bytes(content)
    error = refusal(path)
    assert (error.code, error.hint) == ("truncated", "Copy or download the file again.")


def test_compressed_voxels_that_are_too_few(tmp_path):
    path = write_ct(tmp_path / "ct.nrrd", compress=True)
    path.write_bytes(path.read_bytes().replace(b"sizes: 24 20 16", b"sizes: 24 20 17"))
    assert refusal(path).message == (
        "ct.nrrd is incomplete or damaged: its header announces 16,320 bytes of voxels and it holds 15,360."
    )


def test_a_path_that_is_not_in_utf_8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/ct_\xe4.nii.gz"))
    try:
        write_ct(tmp_path / "ct.nii.gz").rename(path)
    except OSError:
        pytest.skip("this disk has UTF-8 names alone")
    assert refusal(path).message.endswith("ct_\N{REPLACEMENT CHARACTER}.nii.gz is not in UTF-8.")


def test_a_header_whose_data_file_is_missing(tmp_path):
    for suffix, data in (("mhd", "ct.raw"), ("nhdr", "ct.raw")):
        path = write_ct(tmp_path / f"ct.{suffix}")
        (tmp_path / data).unlink()
        assert refusal(path).message == f"ct.{suffix} names {data} as its data file, which is not there."


def test_voxels_spread_over_several_files(tmp_path):
    path = write_ct(tmp_path / "ct.mhd")
    path.write_text(path.read_text().replace("ct.raw", "LIST"))
    assert refusal(path).message == "ct.mhd spreads its voxels over several files."


# Shape


def test_a_2d_image(tmp_path):
    for suffix in ("nii", "nrrd", "mha"):
        sitk.WriteImage(sitk.GetImageFromArray(ct_array()[0]), str(tmp_path / f"ct.{suffix}"))
        assert refusal(tmp_path / f"ct.{suffix}").message == f"ct.{suffix} is 2D (24 × 20)."


def test_a_4d_image(tmp_path):
    for suffix in ("nii", "nrrd", "mha"):
        phases = sitk.JoinSeries([image_of(ct_array()), image_of(ct_array())])
        sitk.WriteImage(phases, str(tmp_path / f"ct.{suffix}"))
        error = refusal(tmp_path / f"ct.{suffix}")
        assert error.message == f"ct.{suffix} is 4D (24 × 20 × 16 × 2)."
        assert "one file each" in error.hint


def test_colour_and_complex_images(tmp_path):
    for suffix in ("nii", "nrrd", "mha"):
        sitk.WriteImage(sitk.Compose([image_of(ct_array())] * 3), str(tmp_path / f"ct.{suffix}"))
        assert "3 values in each voxel" in refusal(tmp_path / f"ct.{suffix}").message
    sitk.WriteImage(sitk.Cast(image_of(ct_array()), sitk.sitkComplexFloat32), str(tmp_path / "ct.nii"))
    assert refusal(tmp_path / "ct.nii").code == "not-scalar"


# Values


def test_a_label_map(tmp_path):
    organs = np.zeros((16, 20, 24), np.uint8)
    organs[4:12, 4:16, 4:20] = 5
    organs[6:10, 8:12, 8:14] = 117
    for labels in (organs, np.minimum(organs, 2), organs.astype(np.int16) * 10):
        assert refusal_of(labels, tmp_path).message.startswith("The image is a label map, not a CT: whole")


def test_a_real_label_map():
    path = DATA / "liver/train/liver_002_seg.nii.gz"
    if not path.exists():
        pytest.skip("real CT is not part of the repository: ../shared/data is absent")
    assert refusal(path).code == "label-map"


def test_an_mr(tmp_path):
    body = (ct_array() > -500) * np.random.default_rng(0).gamma(4, 100, (16, 20, 24))
    error = refusal_of(body.astype(np.int16), tmp_path)
    assert error.message.startswith("The image is not a CT in Hounsfield units: it has no fat, lung or air")
    assert "MR" in error.hint


def test_the_phase_that_is_not_a_ct_is_named(tmp_path):
    ct, labels = write_ct(tmp_path / "ct.nrrd"), write_ct(tmp_path / "seg.nrrd", ct_array() // 500 + 3)
    assert refusal(ct, labels).message.startswith("Phase 2: The image is a label map, not a CT")


def test_an_8_bit_picture(tmp_path):
    picture = np.interp(ct_array(), [-160, 240], [0, 255]).astype(np.uint8)
    assert "as in an 8-bit picture" in refusal_of(picture, tmp_path).message


def test_a_normalised_image(tmp_path):
    for scaled in (ct_array() / 1000, (ct_array() - 100) / 33, np.interp(ct_array(), [-160, 240], [0, 1])):
        assert "as in a normalised image" in refusal_of(scaled.astype(np.float32), tmp_path).message


@pytest.mark.parametrize("offset", [1000, 1024])
def test_a_ct_stored_with_an_offset(tmp_path, offset):
    stored = (ct_array() + offset).astype(np.int16)
    for padding in (None, -2000):
        if padding:
            stored[:, :2] = padding
        assert "it seems to be a CT stored with 1024 added" in refusal_of(stored, tmp_path).message


def test_a_ct_with_its_offset_subtracted_twice(tmp_path):
    assert "where soft tissue would be" in refusal_of((ct_array() - 1024).astype(np.int16), tmp_path).message


def test_a_constant_image(tmp_path):
    assert refusal_of(np.full((16, 20, 24), -1024, np.int16), tmp_path).message == (
        "Every voxel is -1024: the image is empty.")


def test_voxels_that_are_not_numbers(tmp_path):
    for suffix in ("nii", "nii.gz", "nrrd", "mha"):
        for dtype in (np.float32, np.float64):
            array = ct_array().astype(dtype)
            array[0, 0, :3] = np.nan, np.inf, -np.inf
            message = refusal(write_ct(tmp_path / f"ct.{suffix}", array)).message
            assert message == "3 of 7,680 voxels are not a number or infinite."


# Geometry


def test_a_nifti_spacing_that_no_ct_has(tmp_path):
    for spacing in (0.0, -0.7, float("nan"), float("inf"), 1e-4, 0.02, 25.0, 1e9):
        message = refusal(nifti_with(tmp_path, "<f", 80, spacing)).message
        assert message.startswith(f"The header gives a voxel spacing of {spacing:g} × 3 × 4 mm; a CT's lies")


def nrrd(tmp_path: Path, *fields: str) -> Path:
    header = "\n".join(["NRRD0004", "type: short", "dimension: 3", "sizes: 24 20 16", "endian: little",
                        "encoding: raw", *fields])
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + b"\n\n" + ct_array().tobytes())
    return tmp_path / "ct.nrrd"


def test_a_metaimage_or_nrrd_spacing_that_no_ct_has(tmp_path):
    for spacing in ("-1 1 1", "25 1 1", "0.02 1 1", "0 1 1", "nan 1 1"):
        for path in (metaimage(tmp_path, spacing), nrrd(tmp_path, f"spacings: {spacing}")):
            assert refusal(path).code in ("spacing", "unreadable")
    assert refusal(metaimage(tmp_path, "0 1 1")).code == "spacing"
    zero = nrrd(tmp_path, "space: left-posterior-superior", "space directions: (0,0,0) (0,1,0) (0,0,1)")
    assert refusal(zero).code == "spacing"


def test_a_file_that_gives_no_spacing(tmp_path):
    assert refusal(nrrd(tmp_path)).message == "ct.nrrd does not give the spacing of its voxels."
    path = metaimage(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1\n", b""))
    assert refusal(path).message == "ct.mha does not give the spacing of its voxels."


def test_a_size_of_zero_or_less(tmp_path):
    for size in (0, -3):
        error = refusal(nifti_with(tmp_path, "<h", 42, size))
        assert error.message == f"ct.nii announces a size of {size} × 20 × 16 voxels."


def test_a_nifti_header_with_two_voxel_spacings(tmp_path):
    sform = [0, 3, 0, 0, 3, 0, 0, 0, 0, 0, 5, 0]
    assert refusal(nifti_with(tmp_path, "<2h24x12f", 252, 0, 1, *sform)).message == (
        "The header gives two voxel spacings: 3 × 3 × 5 mm (sform) and 2.5 × 3 × 4 mm (pixdim)."
    )


def test_a_sheared_grid(tmp_path):
    assert refusal(metaimage(tmp_path, axes="1 0 0 0 1 0 0 0.1 1")).code == "sheared"
    assert refusal(metaimage(tmp_path, axes="2 0 0 0 1 0 0 0 1")).code == "sheared"
    sform = [2.5, 0, 0.4, 0, 0, 3, 0, 0, 0, 0, 4, 0]
    error = refusal(nifti_with(tmp_path, "<2h24x12f", 252, 0, 1, *sform))
    assert error.message.startswith("The image's axes are not at right angles of unit length")
    assert "3D Slicer" in error.hint


def test_phases_that_do_not_lie_on_the_same_grid(tmp_path):
    first = write_ct(tmp_path / "a.nrrd")
    shifted = write_ct(tmp_path / "b.nrrd", origin=(-10, 20, 6.5))
    assert refusal(first, first, shifted).message == (
        "Phases 1 and 3 do not lie on the same grid: origin (-10, 20, 5) and (-10, 20, 6.5).")
    shorter = write_ct(tmp_path / "c.nrrd", ct_array()[:12], spacing=(2.5, 3, 5))
    assert refusal(first, shorter).message == (
        "Phases 1 and 2 do not lie on the same grid: size (24, 20, 16) and (24, 20, 12); "
        "spacing (2.5, 3, 4) and (2.5, 3, 5).")
    assert "Resample phase 2" in refusal(first, shorter).hint


# Size


def test_a_ct_larger_than_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_ct(tmp_path / "ct.nii.gz")
    monkeypatch.setattr(reading.psutil, "virtual_memory", lambda: SimpleNamespace(available=50_000))
    monkeypatch.setattr(reading, "_pixels", lambda *_: pytest.fail("the voxels were read"))
    with pytest.raises(MachineError, match=r"\(24 × 20 × 16 voxels\) needs 0\.0 GB of memory") as caught:
        read_case([path])
    assert caught.value.exit_code == 3 and caught.value.hint


def test_a_header_that_announces_far_more_than_the_file_holds_allocates_nothing(tmp_path):
    raw = nifti_with(tmp_path, "<3h", 42, 32767, 32767, 32767)
    zipped = tmp_path / "zipped.nii.gz"
    zipped.write_bytes(gzip.compress(raw.read_bytes()))
    nrrd = tmp_path / "ct.nrrd"
    nrrd.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nspacings: 1 1 1\n"
                     b"endian: little\nencoding: gzip\n\n" + gzip.compress(ct_array().tobytes()))
    tracemalloc.start()
    for path in (raw, zipped, nrrd, metaimage(tmp_path, size="30000 30000 30000")):
        assert "its header announces" in refusal(path).message
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


# DICOM


def test_a_folder_without_dicom(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert refusal(tmp_path).code == "no-dicom"


def test_a_folder_with_several_series_lists_them(tmp_path):
    write_dicom(tmp_path, series="1.2.3")
    write_dicom(tmp_path, ct_array((4, 12, 10)), series="1.2.4", t0008_103e="Jane Doe lung")
    assert refusal(tmp_path).message == ("The folder holds 2 DICOM series: CT 'Abdomen venous', 6 images; "
                                         "CT 'no description', 4 images.")


def test_a_series_of_another_modality(tmp_path):
    message = refusal(write_dicom(tmp_path, t0008_0060="MR")).message
    assert message == "The DICOM series is not a CT: MR 'Abdomen venous', 6 images."


def stack(*heights_mm: float) -> np.ndarray:
    return np.array([[0.0, 0.0, height] for height in heights_mm])


def test_missing_slices(tmp_path):
    folder = write_dicom(tmp_path, positions=stack(0, 2.5, 5, 12.5, 15, 17.5))
    assert refusal(folder).message == ("Slices are missing (about 2): neighbours usually lie 2.50 mm apart, "
                                       "the widest gap is 7.50 mm, after slice 3 of 6.")


def test_unevenly_spaced_slices(tmp_path):
    assert refusal(write_dicom(tmp_path, positions=stack(0, 2.5, 5, 8, 10.5, 13))).code == "uneven-slices"


def test_slices_at_the_same_place(tmp_path):
    message = refusal(write_dicom(tmp_path, positions=stack(0, 2.5, 2.5, 5, 5, 7.5))).message
    assert message.startswith("2 of 6 slices lie where another one lies")


def test_a_scout_view_among_the_slices(tmp_path):
    write_dicom(tmp_path)
    write_dicom(tmp_path, ct_array((1, 12, 10)), axes=((1, 0, 0), (0, 0, -1)), series="1.2.9",
                t0020_000e="1.2.826.1")
    assert refusal(tmp_path).code == "mixed-orientations"


def test_slices_of_different_sizes(tmp_path):
    write_dicom(tmp_path)
    write_dicom(tmp_path, ct_array((1, 14, 10)), positions=stack(99), series="1.2.9", t0020_000e="1.2.826.1")
    assert refusal(tmp_path).code == "mixed-sizes"


def test_a_tilted_gantry(tmp_path):
    heights = np.arange(6) * 2.5
    positions = np.column_stack([0 * heights, heights * np.tan(np.radians(12)), heights])
    message = refusal(write_dicom(tmp_path, positions=positions)).message
    assert message == "The stack of slices leans by 12.0° (gantry tilt)."


def test_a_slice_shifted_sideways(tmp_path):
    positions = stack(0, 2.5, 5, 7.5, 10, 12.5)
    positions[2, 0] = 3
    assert refusal(write_dicom(tmp_path, positions=positions)).code == "shifted-slices"


def test_a_single_slice(tmp_path):
    assert refusal(write_dicom(tmp_path, ct_array((1, 12, 10)))).code == "one-slice"


def test_slices_that_do_not_say_where_they_lie(tmp_path):
    for path in write_dicom(tmp_path).iterdir():
        position, unknown = b"\x20\x00\x32\x00", b"\x20\x00\x33\x00"
        path.write_bytes(path.read_bytes().replace(position, unknown, 1))
    assert refusal(tmp_path).message.startswith("6 of 6 DICOM images do not say where in the patient they")


def test_a_multi_frame_file(tmp_path):
    image = image_of((ct_array() + 1024).astype(np.uint16))
    for tag, value in {"0008|0060": "CT", "0020|000e": "1.2.3"}.items():
        image.SetMetaData(tag, value)
    sitk.WriteImage(image, str(tmp_path / "all.dcm"))
    error = refusal(tmp_path)
    assert error.code == "multi-frame"
    assert "3D Slicer" in error.hint


def test_a_damaged_slice(tmp_path):
    write_dicom(tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-60])
    assert refusal(tmp_path).message == "A CT slice in the folder is incomplete or damaged."


@pytest.mark.parametrize("name", ["IM005", "0005.dcm", "1.2.826.5"])
@pytest.mark.parametrize("kept", [0, 100])
def test_a_slice_of_which_hardly_anything_was_copied(tmp_path, name, kept):
    """Were it the last one, and left out, the stack would be shorter and as even."""
    write_dicom(tmp_path)
    path = next(tmp_path.iterdir()).rename(tmp_path / name)
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(tmp_path).message.startswith(f"A file of the folder ends after {kept} bytes")


def test_small_files_that_are_no_slices_may_lie_beside_them(tmp_path):
    write_dicom(tmp_path)
    for name in (".hidden", "LICENSE.txt", "notes.json"):
        (tmp_path / name).write_text("")
    assert read_case([tmp_path]).volume.grid.size_xyz[2] == 6


def test_itk_does_not_speak_beside_us(tmp_path, capfd):
    refusal(write_dicom(tmp_path / "tilt", positions=stack(0, 2.5, 5, 8, 10.5, 13)))
    refusal(nifti_with(tmp_path, "<3h", 42, 0, 0, 0))
    refusal(metaimage(tmp_path, size="24 20 17"))
    assert capfd.readouterr().err == ""
    assert sitk.ProcessObject.GetGlobalWarningDisplay()
