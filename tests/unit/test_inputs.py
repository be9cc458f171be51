"""Every form in which images may be sent to a registered model is the same images, or is refused by name."""

import warnings
import zlib

import numpy as np
import pytest
from forms import FORMS, IMAGES, NEAR, SIDE, file, text

from pipeline.registry.bundled.inputs import MAX_PIXELS, NotAnImage, read


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_images_or_refused_by_name(name):
    sent, refusal = FORMS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if refusal:
            with pytest.raises(NotAnImage) as refused:
                read(sent, (SIDE, SIDE))
            assert refusal in str(refused.value)
            return
        images = read(sent, (SIDE, SIDE))
    assert images.dtype == np.uint8 and images.shape[1:] == (SIDE, SIDE) and images.flags.writeable
    if name not in NEAR:
        wanted = IMAGES.transpose(0, 2, 1) if name == "transposed array" else IMAGES
        assert all((image == wanted[0]).all() or (image == wanted[number]).all() for number, image in enumerate(images))


def test_a_model_of_any_size_takes_images_of_one_size():
    assert read([text(np.zeros((40, 50), np.uint8))] * 2, (None, None)).shape == (2, 40, 50)
    assert read(np.zeros((40, 50), np.uint8), (None, None)).shape == (1, 40, 50)
    with pytest.raises(NotAnImage, match="differ in size"):
        read([text(np.zeros((40, 50), np.uint8)), text(np.zeros((50, 40), np.uint8))], (None, None))


@pytest.mark.parametrize("width", [MAX_PIXELS, 2**31 - 1])
def test_a_small_file_that_promises_a_huge_picture_is_not_unpacked(width):
    promised = bytearray(file(np.zeros((8, 8), np.uint8)))
    promised[16:24] = width.to_bytes(4, "big") + (2).to_bytes(4, "big")
    promised[29:33] = zlib.crc32(promised[12:29]).to_bytes(4, "big")
    with pytest.raises(NotAnImage, match=r"more than 64,000,000 pixels|too large a picture"):
        read([bytes(promised)], (None, None))
