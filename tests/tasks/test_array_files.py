"""Numpy files whose headers lie, and data that would have to be fetched."""

import io
import os
import socket
import struct
import zipfile

import numpy as np
import pytest

from mechmem.errors import ConfigError
from mechmem.tasks.build import build_task
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.image_folders import _pixels
from mechmem.tasks.image_sources import image_data

IMAGES, LABELS = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 3


def saved(path, **arrays):
    np.savez(path, images=IMAGES, labels=LABELS, **arrays)


def member(shape, data=b"", version=1):
    head = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head + data


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)


def plain(array):
    box = io.BytesIO()
    np.save(box, array)
    return box.getvalue()


FILES = {
    "n_test that is a vector": (lambda path: saved(path, n_test=np.array([1, 2])), "must be one whole number"),
    "n_test that is a word": (lambda path: saved(path, n_test=np.array("a")), "must be one whole number"),
    "classes that no image is of": (
        lambda path: saved(path, n_classes=np.array(2**40)),
        "n_classes must be|every class",
    ),
    "a label far beyond": (
        lambda path: np.savez(path, images=IMAGES, labels=LABELS + 2**40),
        "labels must be below",
    ),
    "a header of 10^12 images": (
        lambda path: zipped(path, images=member((10**12, 28, 28)), labels=plain(LABELS)),
        "is said to have shape",
    ),
    "a header of less than there is": (
        lambda path: zipped(path, images=member((6, 4, 4), bytes(100)), labels=plain(LABELS)),
        "is said to have shape",
    ),
    "a header of another version": (
        lambda path: zipped(path, images=member((10**12, 1), version=2), labels=plain(LABELS)),
        "is said to have shape",
    ),
    "objects": (lambda path: np.savez(path, images=np.array([{}], object), labels=LABELS), "cannot read|said to have"),
    "an array that is no archive": (lambda path: path.write_bytes(plain(IMAGES)), "cannot read"),
    "an archive of text": (lambda path: zipped(path, images=b"text", labels=b""), "cannot read"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_lies_is_refused(what, tmp_path):
    write, message = FILES[what]
    write(tmp_path / "x.npz")
    with pytest.raises(ConfigError, match=message):
        image_data(str(tmp_path / "x.npz"))


def test_more_than_fits_into_memory_is_refused(tmp_path, monkeypatch):
    saved(tmp_path / "x.npz")
    monkeypatch.setattr("mechmem.tasks.array_files._memory", lambda: 300)
    with pytest.raises(ConfigError, match="more than this machine's memory"):
        image_data(str(tmp_path / "x.npz"))


@pytest.fixture
def addresses(monkeypatch):
    """What was to be reached on the network."""
    found = []

    def refuse(*arguments, **_settings):
        found.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return found


@pytest.mark.slow
def test_the_data_of_a_run_on_disk_are_not_fetched(addresses):
    with pytest.raises(ConfigError, match="nor a data set that opens"):
        build_task(ImageConfig("somebody/images"), recorded=True)
    assert not addresses


def test_images_that_are_addresses_are_not_fetched(addresses):
    import datasets

    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for image in ({"path": "https://example.org/1.png", "bytes": None}, None):
        part = datasets.Dataset.from_dict({"image": [image], "label": [0]}, features=kinds)
        with pytest.raises(ConfigError, match="is not there"):
            _pixels("mine", part, "image")
    assert not addresses
