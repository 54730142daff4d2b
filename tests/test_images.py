import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from reid.errors import ImageError
from reid.images import as_rgb, read_image


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 10, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_every_kind_of_image_becomes_rgb(tmp_path, mode):
    image = Image.new("RGB", (6, 9), (255, 255, 255)).convert(mode)
    image.save(tmp_path / "image.png")
    read = read_image(tmp_path / "image.png")
    assert (read.mode, read.size, read.getpixel((3, 3))) == ("RGB", (6, 9), (255, 255, 255))


def read_back(tmp_path, image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return read_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", ["plain.jpg", "plain.png"])
def test_plain_images_are_as_stored(tmp_path, mode, name):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    read = read_back(tmp_path, Image.fromarray(pixels).convert(mode), name)
    with Image.open(tmp_path / name) as stored:
        wanted = np.asarray(stored)
    assert np.array_equal(np.asarray(read), wanted if mode == "RGB" else wanted[..., None].repeat(3, 2))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bits_are_brought_to_8(tmp_path, name):
    deep = np.array([[0, 256, 257], [32896, 65278, 65535]], dtype=np.uint16)
    read = np.asarray(read_back(tmp_path, Image.fromarray(deep), name))
    assert read[..., 0].tolist() == [[0, 1, 1], [128, 254, 255]]  # a 257th each: 255 of 65535 is 1 of 255
    assert (read == read[..., :1]).all()


def test_big_endian_16_bits(tmp_path):
    image = Image.frombytes("I;16B", (2, 1), bytes([0x80, 0x80, 0xFF, 0xFF]))
    assert [as_rgb(image, "one").getpixel((x, 0))[0] for x in (0, 1)] == [128, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_known_range_are_refused(tmp_path, mode):
    image = Image.new(mode, (3, 3), 200)
    image.save(tmp_path / "values.tif")
    with pytest.raises(ImageError, match=rf"values\.tif: wanted an image of 8 or 16 bits.* mode {mode}"):
        read_image(tmp_path / "values.tif")
    with pytest.raises(ImageError, match=rf"mine: wanted an image of 8 or 16 bits.* mode {mode}"):
        as_rgb(image, "mine")


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png"])
def test_photos_stand_upright(tmp_path, name):
    """EXIF 6: the camera was turned; the first row of what is stored is the right edge of what was seen."""
    seen = np.zeros((16, 8, 3), dtype=np.uint8)
    seen[:, 4:] = 255
    stored = Image.fromarray(np.rot90(seen))  # counter-clockwise: the right edge comes to the top
    exif = Image.Exif()
    exif[0x0112] = 6
    read = read_back(tmp_path, stored, name, exif=exif)
    assert read.size == (8, 16)
    assert np.abs(np.asarray(read).astype(int) - seen).max() < 20  # JPEG is not exact


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_see_through_stands_before_white(tmp_path, mode):
    """Left: colours that nobody is meant to see. Middle: half of black. Right: black."""
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    rgba[0, 0, :3] = 90
    image = Image.fromarray(rgba)
    if mode == "P":
        image = Image.new("P", (3, 1))
        image.putpalette([90, 90, 90, 127, 127, 127, 0, 0, 0])
        image.putdata([0, 1, 2])
    read = read_back(tmp_path, image.convert(mode), **({"transparency": 0} if mode == "P" else {}))
    assert [read.getpixel((x, 0)) for x in range(3)] == [(255,) * 3, (127,) * 3, (0,) * 3]


def test_an_image_that_is_handed_over_stays_as_it_is():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.getexif()[0x0112] = 6
    assert as_rgb(image, "mine").size == (1, 2)
    assert (image.mode, image.size, image.getexif()[0x0112]) == ("RGBA", (2, 1), 6)
    plain = Image.new("RGB", (2, 1))
    assert as_rgb(plain, "mine") is not plain


def test_missing_image(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: wanted an image, found no such file\. Check its name"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path, content):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"text\.jpg: wanted a whole image"):
        read_image(path)


def test_a_text_is_told_from_a_damaged_image(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no image at all")
    with pytest.raises(
        ImageError, match=r"notes\.txt: wanted a whole image, found none\. Name a picture such as a JPEG"
    ):
        read_image(path)


def test_folder_in_place_of_an_image(tmp_path):
    with pytest.raises(ImageError, match=r"wanted a whole image, found a folder\. Name an image file"):
        read_image(tmp_path)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_jpeg_cut_anywhere_is_an_error(tmp_path_factory, share):
    content = jpeg()
    path = tmp_path_factory.mktemp("cut") / "cut.jpg"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match="wanted a whole image"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(place=st.integers(20, 149), value=st.integers(0, 255))
@example(place=41, value=0)  # the kind of a value: Pillow reads such EXIF, and fails when it writes it again
@settings(max_examples=60, deadline=None)
def test_exif_that_is_damaged_spoils_no_image(tmp_path_factory, place, value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageDescription] = 6, "abc"
    exif[ExifTags.IFD.GPSInfo] = {1: "N"}
    buffer = io.BytesIO()
    Image.new("RGB", (4, 8), "red").save(buffer, "JPEG", exif=exif)
    content = bytearray(buffer.getvalue())
    content[place] = value
    path = tmp_path_factory.mktemp("exif") / "a.jpg"
    path.write_bytes(content)
    try:
        found = read_image(path)
    except ImageError:
        return
    assert sorted(found.size) == [4, 8]
