"""The handwritten digits: 1,797 images of 8×8 pixels, small enough to come with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def load_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the images, ``uint8[1797, 8, 8]`` with values from 0 to 16, and their labels, ``uint8[1797]`` from 0 to 9.

    Each pixel counts the inked points in a 4×4 cell of a 32×32 bitmap; the images come in the order of the source.

    >>> images, labels = load_digits()
    >>> images.shape, labels[:5].tolist()
    ((1797, 8, 8), [0, 1, 2, 3, 4])

    Source: the test set of E. Alpaydin and C. Kaynak (1998), *Optical Recognition of Handwritten Digits*, UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49, as distributed with scikit-learn.
    Licence: Creative Commons Attribution 4.0 International (CC BY 4.0),
    https://creativecommons.org/licenses/by/4.0/.  Stored here as compressed uint8 arrays; the values are unchanged.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as data:
        return data["images"], data["labels"]
