"""The digits that come with the package."""

import hashlib

import numpy as np

from tracejit.demo.digits import load_digits


def test_shapes_and_values():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert (images.min(), images.max()) == (0, 16)
    assert labels.shape == (1797,)
    assert labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_bytes_are_the_published_ones():
    images, labels = load_digits()
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_calls_share_nothing():
    load_digits()[0][:] = 0
    assert load_digits()[0].any()
