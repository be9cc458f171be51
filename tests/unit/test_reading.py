"""Pictures and files in the forms in which people have them: ink, sheets, lines, several digits, tables, arrays."""

import gzip
import io
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from support import PROJECT

import models
from benchmarks import photographs
from pipeline.data import grey, sources
from pipeline.data.images import ImageSet
from pipeline.errors import InputError
from pipeline.inference import digitize, image_files, pixel_tables, segments
from pipeline.inference.reading import as_it_is, read_picture
from pipeline.inference.signs import are_signs, shape_of
from pipeline.metrics import classification
from pipeline.metrics.calibration import SURE_SHARE, calibrate
from pipeline.registry.bundled import calibrated


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return sources.digits(PROJECT).test


def framed(picture: np.ndarray) -> np.ndarray:
    return digitize.normalize_digit(digitize.segment_ink(picture, name="it"), (28, 28)).image.astype(float)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("kind", photographs.SINGLE)
def test_whatever_the_paper_the_light_and_what_else_is_on_the_picture_the_digit_is_the_same(digits, kind):
    random = np.random.default_rng(1)
    alike = []
    for image in digits.images[:8]:
        picture = grey.plainest(photographs.SINGLE[kind](image, random))
        clean = framed(np.rint(255 * (1 - np.pad(photographs.enlarged(image, 192), 40))).astype(np.uint8))
        alike.append(likeness(framed(picture), clean))
    # A digit of 16 px keeps less of its shape.
    assert np.median(alike) > 0.85 and np.mean(np.array(alike) > 0.6) > 0.9, alike


@pytest.mark.parametrize("size", [24, 60])
def test_four_sevens_are_four_digits_from_left_to_right(digits, size):
    random = np.random.default_rng(0)
    sevens = [
        image for image, target in zip(digits.images, digits.targets, strict=True) if digits.classes[target] == "7"
    ]
    picture = grey.plainest(
        photographs.photographed(photographs.row(sevens[:4], random, size=size), random, grain=0.005)
    )
    reading = read_picture(picture, (28, 28), name="it", characters=True)
    assert len(reading.lines) == 1
    ((chosen,), _) = reading.choose(np.full(len(reading.framed), -0.01))
    assert len(chosen) == 4
    left = reading.boxes[chosen, 0]
    assert (np.diff(left) > 0).all()
    for at, seven in zip(chosen, sevens, strict=False):
        clean = framed(np.rint(255 * (1 - np.pad(photographs.enlarged(seven, 192), 40))).astype(np.uint8))
        assert likeness(reading.framed[at].image, clean) > 0.7


def test_lines_are_read_from_top_to_bottom(digits):
    random = np.random.default_rng(0)
    upper, lower = (photographs.row(digits.images[some], random)[:, :600] for some in ([0, 1, 2], [3, 4]))
    rows = [np.flatnonzero(ink.any(1)) for ink in (upper, lower)]
    ink = np.vstack([part[at[0] - 20 : at[-1] + 20] for part, at in zip((upper, lower), rows, strict=True)])
    picture = np.rint(255 * (1 - ink)).astype(np.uint8)
    reading = read_picture(picture, (28, 28), name="it", characters=True)
    lines, _ = reading.choose(np.full(len(reading.framed), -0.01))
    assert [len(line) for line in lines] == [3, 2]


def test_pictures_of_other_things_than_characters_stay_whole(digits):
    random = np.random.default_rng(0)
    picture = grey.plainest(photographs.photographed(photographs.row(digits.images[:3], random), random))
    assert len(read_picture(picture, (28, 28), name="it", characters=False).framed) == 1


def test_strokes_that_touch_are_parted_where_the_classifier_is_surer_of_the_parts():
    nothing = np.zeros((1, 1))
    ink = digitize.Ink(nothing, nothing > 0, 1.0)
    whole, left, right = (
        segments.Candidate(*place, ink, cost) for place, cost in (((0, 2), 0), ((0, 1), 1), ((1, 2), 1))
    )
    line = [whole, left, right]
    assert segments.choose(line, np.log([0.05, 0.99, 0.99])) == [1, 2]
    assert segments.choose(line, np.log([0.6, 0.99, 0.99])) == [0]


def drawn(*strokes: list[tuple[float, float]]) -> np.ndarray:
    """Strokes through points in a square of 1, as marks 100 px apart."""
    from PIL import ImageDraw

    paper = Image.new("L", (140 * len(strokes) + 60, 200), 255)
    draw = ImageDraw.Draw(paper)
    for number, stroke in enumerate(strokes):
        for line in stroke if isinstance(stroke[0], list) else [stroke]:
            draw.line([(40 + 140 * number + 100 * x, 50 + 100 * y) for x, y in line], fill=0, width=9, joint="curve")
    return np.array(paper)


SEVEN = [(0, 0), (0.6, 0), (0.2, 1)]
ONE = [(0.3, 0), (0.3, 1)]
SLASH = [(0.8, -0.1), (0, 1.1)]
BRACKET = [(0.35, -0.15), (0.2, 0.1), (0.13, 0.35), (0.13, 0.65), (0.2, 0.9), (0.35, 1.15)]
PLUS = [[(0.3, 0.2), (0.3, 0.8)], [(0, 0.5), (0.6, 0.5)]]


@pytest.mark.parametrize(("sign", "expected"), [(SLASH, True), (BRACKET, True), (PLUS, True), (ONE, False)])
def test_signs_of_arithmetic_are_no_digits(sign, expected):
    picture = drawn(SEVEN, sign, SEVEN, ONE)
    ink = digitize.segment_ink(picture, name="it")
    ((line,), _) = segments.find_lines_of_writing(ink, name="it")
    chosen = [line[at] for at in segments.choose(line, np.full(len(line), -0.01))]
    assert are_signs([candidate.ink for candidate in chosen]) == [False, expected, False, False]


def test_the_narrowest_marks_are_no_signs():
    thin = np.repeat([0, 255], 20)[None].repeat(40, 0).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_picture(thin, (28, 28), name="it", characters=True).framed)
        assert not shape_of(np.ones((2, 2), bool)).cross


DASH = [(0, 0.5), (0.5, 0.5)]
SMALL_SEVEN = [(0, 0), (0.15, 0), (0.05, 0.25)]


def left_out(picture: np.ndarray) -> list[list[int]]:
    """Boxes of what is passed over where every candidate is as probable."""
    reading = read_picture(picture, (28, 28), name="it", characters=True)
    return np.rint(reading.choose(np.full(len(reading.framed), -0.01))[1]).astype(int).tolist()


def dotted(picture: np.ndarray, side: int, left: int) -> np.ndarray:
    """A picture with a dot on the line that its marks stand on."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.where(np.hypot(x - left - side / 2, y - 154 + side / 2) <= side / 2, 0, picture).astype(np.uint8)


@pytest.mark.parametrize("side", [8, 14, 20])
@pytest.mark.parametrize("left", [105, 150], ids=["beside a foot", "between"])
def test_a_decimal_point_is_not_passed_over_in_silence(side, left):
    ((x1, _, x2, _),) = left_out(dotted(drawn(SEVEN, ONE), side, left))
    assert abs(x1 - left) <= 3 and abs(x2 - left - side) <= 3


@pytest.mark.parametrize("mark", [DASH, SMALL_SEVEN, SLASH, PLUS], ids=["minus", "a small digit", "slash", "plus"])
def test_marks_that_are_no_digits_or_too_small_are_not_passed_over_in_silence(mark):
    (box,) = left_out(drawn(SEVEN, mark, SEVEN, ONE))
    assert 170 < box[0] < 200 and box[2] < 280


def test_a_digit_that_the_border_cuts_is_not_passed_over_in_silence():
    whole = drawn(SEVEN, ONE, SEVEN)
    assert len(left_out(whole[:, :365])) == 1 and left_out(whole) == []


def test_a_digit_that_touches_the_table_is_not_passed_over_in_silence():
    picture = drawn(SEVEN, ONE, SEVEN, ONE)
    picture[:, :48] = 60
    ((x1, _, x2, _),) = left_out(picture)
    assert 40 <= x1 <= 60 and 95 <= x2 <= 110
    picture[:, 30:52] = 255
    assert left_out(picture) == []


def test_what_shows_through_from_the_back_of_the_sheet_is_not_read(digits):
    random = np.random.default_rng(3)
    ink, back = (photographs.row(digits.images[some], random)[:, :640] for some in ([0, 1, 2, 3], [4, 5, 6, 7]))
    through = 0.25 * ndimage.gaussian_filter(back[:, ::-1], 2.5)
    picture = grey.plainest(photographs.photographed(np.maximum(ink, through), random))
    reading = read_picture(picture, (28, 28), name="it", characters=True)
    assert sum(map(len, reading.choose(np.full(len(reading.framed), -0.01))[0])) == 4


def test_nothing_is_left_out_of_digits_in_any_light(digits):
    random = np.random.default_rng(2)
    for kind in ("uneven light", "half in shadow", "squared paper", "light on dark", "in a box"):
        for image in digits.images[:6]:
            assert left_out(grey.plainest(photographs.SINGLE[kind](image, random))) == [], kind


@pytest.mark.parametrize("kind", ["two pens", "under an oblique shadow"])
def test_all_digits_of_a_row_are_read_in_any_pen_and_under_any_shadow(digits, kind):
    found = []
    for number in range(8):
        images = digits.images[4 * number : 4 * number + 4]
        picture = grey.plainest(photographs.ROWS[kind](images, np.random.default_rng(number)))
        reading = read_picture(picture, (28, 28), name="it", characters=True)
        lines, passed_over = reading.choose(np.full(len(reading.framed), -0.01))
        found.append((sum(map(len, lines)), len(passed_over)))
    # A digit that looks like a sign is passed over, but not in silence.
    assert all(read + passed >= 4 for read, passed in found) and sum(read == 4 for read, _ in found) >= 7, found


@pytest.mark.parametrize("pale", [0.06, 0.1, 0.15])
def test_what_is_too_pale_beside_the_ink_is_said_to_be_there(digits, pale):
    pens = [(photographs.BLACK, tuple(colour - pale for colour in photographs.PAPER))]
    for number in range(4):
        images = digits.images[4 * number : 4 * number + 4]
        picture = photographs.in_two_pens(images, np.random.default_rng(number), pens)
        assert left_out(grey.plainest(picture)) != [], number


SHADES = {
    "gradient": lambda y, x: x / 400,
    "slanting gradient": lambda y, x: (x + y) / 700,
    "spot of light": lambda y, x: np.exp(-((x - 200) ** 2 + (y - 150) ** 2) / 2 / 80**2),
    "soft shadow": lambda y, x: 1 - 0.8 * np.exp(-((x - 250) ** 2 + (y - 150) ** 2) / 2 / 60**2),
    "darker corners": lambda y, x: 0.9 - 0.3 * (((x - 200) / 200) ** 2 + ((y - 150) / 150) ** 2),
}


@pytest.mark.parametrize("grain", [0, 4])
@pytest.mark.parametrize("shade", SHADES)
def test_shades_are_no_ink(shade, grain):
    smooth = 255 * SHADES[shade](*np.mgrid[:300, :400]) + np.random.default_rng(0).normal(0, grain, (300, 400))
    with pytest.raises(InputError, match=r"it shows (no ink|soft shades)"):
        digitize.segment_ink(np.rint(smooth.clip(0, 255)).astype(np.uint8), name="it")


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_a_gradient_in_any_direction_is_no_ink(degrees):
    y, x = np.mgrid[:300, :400]
    across = np.cos(np.deg2rad(degrees)) * x + np.sin(np.deg2rad(degrees)) * y
    share = (across - across.min()) / np.ptp(across)
    for picture in (255 * share, 120 + 110 * share, 255 * share**2):
        with pytest.raises(InputError, match=r"it shows (no ink|soft shades)"):
            digitize.segment_ink(picture.astype(np.uint8), name="it")


HALVES = {
    "half black": np.repeat([0, 255], 200)[None].repeat(400, 0),
    "half white": np.repeat([255, 0], 200)[None].repeat(400, 0),
    "dark above": np.repeat([30, 220], 200)[:, None].repeat(400, 1),
    "bright above": np.repeat([220, 30], 200)[:, None].repeat(400, 1),
    "one of four": 220 - 190 * np.kron([[0, 1], [0, 0]], np.ones((200, 200), int)),
}


@pytest.mark.parametrize("grain", [0, 5])
@pytest.mark.parametrize("halves", HALVES)
def test_a_picture_of_two_areas_shows_no_ink(halves, grain):
    areas = HALVES[halves] + np.random.default_rng(0).normal(0, grain, (400, 400))
    with pytest.raises(InputError, match=r"it shows (no ink|soft shades)"):
        read_picture(areas.clip(0, 255).astype(np.uint8), (28, 28), name="it", characters=True)


@pytest.mark.parametrize(
    ("shape", "says"),
    [((2, 2), "2 x 2 px: too few"), ((7, 9), "9 x 7 px: too few"), ((20, 20_000), "strip of 20000 x 20 px: crop it")],
)
def test_pictures_too_small_or_too_narrow_to_show_a_digit_say_so(shape, says):
    speckled = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    with pytest.raises(InputError, match=says):
        digitize.segment_ink(speckled, name="it")


def test_a_pattern_is_no_writing():
    squares = np.full((600, 600), 255, np.uint8)
    for place in np.random.default_rng(0).permutation(400)[:250].tolist():
        top, left = 30 * (place // 20) + 8, 30 * (place % 20) + 8
        squares[top : top + 14, left : left + 14] = 0
    with pytest.raises(InputError, match=r"it shows \d+ separate marks.*crop it"):
        read_picture(squares, (28, 28), name="it", characters=True)


def test_a_digit_that_fills_its_picture_needs_no_margin():
    whole = 0
    for number, image in enumerate(load_digits().images[:50]):
        paper = Image.fromarray((255 - 15.9 * image).astype(np.uint8))
        picture = np.asarray(paper.resize((60, 60), Image.Resampling.BICUBIC))
        ink = digitize.segment_ink(picture, name=f"no. {number}")
        assert (ink.box >= 0).all() and (ink.box <= 60).all()
        whole += 0.05 < ink.mask.mean() < 0.7
    assert whole >= 45


@pytest.mark.parametrize("level", [120, 255])
def test_paper_without_ink_is_said(level):
    random = np.random.default_rng(0)
    blank = (random.normal(level - 20, 3, (400, 500)) * np.linspace(0.8, 1, 500)).clip(0, 255).astype(np.uint8)
    with pytest.raises(InputError, match="it shows no ink"):
        digitize.segment_ink(blank, name="it")


@pytest.mark.parametrize("stroke", [0, 255])
def test_strokes_on_transparency_are_read_in_any_colour(stroke):
    pixels = np.zeros((100, 100, 4), np.uint8)
    pixels[20:80, 45:55] = [stroke] * 3 + [255]
    image = framed(grey.read(encoded(Image.fromarray(pixels)), name="it"))
    assert image[14, 14] > 200 and image[14, 4] == 0


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_files_of_sixteen_bits_are_read_whatever_the_sensor_had(white):
    pixels = np.full((100, 100), white, np.uint16)
    pixels[20:80, 45:55] = white // 10
    picture = grey.read(encoded(Image.fromarray(pixels)), name="it")
    assert picture[0, 0] == 255 and picture[50, 50] == pytest.approx(25, abs=1)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("white", [1.0, 0.5, 1000.0])
def test_pictures_of_fractions_are_read_whatever_is_missing(white, missing):
    pixels = np.full((100, 100), white, np.float32)
    pixels[20:80, 45:55] = white / 10
    pixels[0, 0] = missing
    for shift in (0, white / 2):
        image = framed(grey.read(encoded(Image.fromarray(pixels - np.float32(shift)), "TIFF"), name="it"))
        assert image[14, 14] > 200 and image[14, 4] == 0
    with pytest.raises(InputError, match="it has no pixel whose value is a number"):
        grey.read(encoded(Image.fromarray(np.full_like(pixels, missing)), "TIFF"), name="it")


def twice(content: bytes) -> bytes:
    """Compressed twice, at no time: all processes that run the tests must know a test by the same name."""
    return gzip.compress(gzip.compress(content, mtime=0), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.idx.gz", twice(bytes(60)), "is compressed twice: unpack it once"),
        ("a.csv.gz", twice(b"1,2,3"), "is compressed twice: unpack it once"),
        ("a.csv", b"PK\x03\x04 and so on", "is an archive, as .zip, .npz and workbooks are"),
        ("a.xlsx", b"PK\x03\x04 and so on", "is an archive, as .zip, .npz and workbooks are"),
        ("a.npy", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("a.idx", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("a.pdf", b"%PDF-1.7", "is a PDF document: save its pages as pictures"),
        ("a.png", b"%PDF-1.7", "is a PDF document: save its pages as pictures"),
        ("a.svg", b"<?xml version='1.0'?><svg/>", "is a drawing in SVG: save it as PNG"),
        ("a.gif", b"GIF89a", "is a GIF: save it as PNG"),
        ("a.png", b"", "is empty"),
        ("a.csv", b"", "is empty"),
        ("a.npy", b"", "is empty"),
    ],
)
def test_files_that_are_something_else_are_named_for_what_they_are(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        list(image_files.blocks(tmp_path / name, (28, 28)))
    assert str(error.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_pictures_are_read_in_every_usual_form(form):
    pixels = np.full((100, 100, 3), 240, np.uint8)
    pixels[20:80, 45:55] = 20
    assert framed(grey.read(encoded(Image.fromarray(pixels), form), name="it"))[14, 14] > 200


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a.jpg"])
def test_a_jpeg_is_one_by_any_of_its_endings(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(Image.new("L", (40, 40), 200), "JPEG"))
    (file,) = image_files.find(tmp_path).files
    (block,) = image_files.blocks(file, (28, 28))
    assert block.is_picture


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_on_its_side_is_turned_whether_it_comes_as_a_file_or_as_bytes(tmp_path, compression, orientation):
    pixels = np.arange(30 * 50, dtype=np.uint8).reshape(30, 50)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation})
    turned = grey.read(tmp_path / "a.tif", name="it")
    assert np.array_equal(turned, grey.read((tmp_path / "a.tif").read_bytes(), name="it"))
    assert turned.shape == ((30, 50) if orientation < 5 else (50, 30))
    assert np.array_equal(np.sort(turned, None), np.sort(pixels, None))


def test_a_picture_of_a_telephone_is_read_or_says_what_it_needs():
    if "HEIF" in grey.FORMATS:
        pixels = np.full((100, 100, 3), 240, np.uint8)
        pixels[20:80, 45:55] = 20
        assert framed(grey.read(encoded(Image.fromarray(pixels), "HEIF"), name="it"))[14, 14] > 200
    else:
        with pytest.raises(InputError, match=r"it.heic needs a package to be read: pip install -r requirements-heic"):
            grey.read(b"ftypheic", name="it.heic")
        with pytest.raises(InputError, match="needs a package to be read"):
            grey.read(b"\0\0\0\x18ftypmif1", name="it")


def test_hidden_files_are_no_input_and_others_are_counted_and_named(tmp_path):
    for name in (
        "3.png",
        "._3.png",
        "__MACOSX/3.png",
        ".ipynb_checkpoints/3.png",
        "in/4.WebP",
        "notes.txt",
        "in/x.gif",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = image_files.find(tmp_path)
    assert [file.name for file in found.files] == ["3.png", "4.WebP"]
    assert "2 files of other kinds (1 .gif, 1 .txt)" in found.others_in_words()


def test_folders_that_links_lead_to_are_read_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.png").write_bytes(b"x")
    (tmp_path / "here").mkdir()
    for name, target in {"fives": "../elsewhere", "again": "../elsewhere", "round": "."}.items():
        (tmp_path / "here" / name).symlink_to(target)
    (found,) = image_files.find(tmp_path / "here").files
    assert found.name == "5.png"


def read_array(tmp_path, array: np.ndarray) -> np.ndarray:
    np.save(tmp_path / "a.npy", array)
    return np.concatenate([block.images for block in image_files.blocks(tmp_path / "a.npy", (28, 28))])


def test_arrays_are_read_flat_with_a_last_axis_of_one_and_of_yes_and_no(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28)).astype(np.uint8)
    for array in (images, images.reshape(30, 784), images[..., None], images[:, None], images.astype(float)):
        assert np.array_equal(read_array(tmp_path, array), images)
    assert np.array_equal(read_array(tmp_path, images > 100), 255 * (images > 100))
    assert np.array_equal(read_array(tmp_path, images[0]), images[:1])
    assert np.array_equal(read_array(tmp_path, images[0].ravel()), images[:1])
    with pytest.raises(InputError, match=r"is no .npy array of images .* has the shape \(30, 28, 28, 4\)"):
        read_array(tmp_path, np.repeat(images[..., None], 4, axis=3))


def test_an_archive_of_arrays_is_read_where_its_images_can_be_told(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1100, 28, 28)).astype(np.uint8)
    for content in (
        {"arr_0": images},
        {"anything": images.reshape(1100, 784)},
        {"x_test": images[..., None], "y_test": np.arange(1100)},
    ):
        np.savez_compressed(tmp_path / "a.npz", **content)
        found = list(image_files.blocks(tmp_path / "a.npz", (28, 28)))
        assert np.array_equal(np.concatenate([block.images for block in found]), images)
        assert [block.first for block in found] == [sum(len(b.images) for b in found[:at]) for at in range(len(found))]
    np.savez(tmp_path / "b.npz", x_train=images, x_test=images)
    with pytest.raises(InputError, match=r"b.npz has the arrays x_train, x_test: leave the one of the images"):
        list(image_files.blocks(tmp_path / "b.npz", (28, 28)))


LABELS = np.arange(30) % 10
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 784))
# The corners of a digit are black.
PIXELS[:, [0, -1]] = 0
NAMES = [f"pixel{at}" for at in range(784)]
FRAME = pd.DataFrame(PIXELS, columns=NAMES)
TABLES = {
    "first.csv": FRAME.assign(label=LABELS)[["label", *NAMES]].to_csv(index=False),
    "last.csv": FRAME.assign(label=LABELS).to_csv(index=False),
    "class.csv": FRAME.assign(Class=LABELS).to_csv(index=False),
    "index.csv": FRAME.assign(label=LABELS).to_csv(),
    "semicolons.csv": FRAME.to_csv(index=False, sep=";"),
    "blank-lines-first.csv": "\n  \r\n" + FRAME.assign(label=LABELS).to_csv(index=False),
    "a-name-more-than-values.csv": FRAME.assign(label=LABELS, note="")[["label", *NAMES, "note"]].to_csv(index=False),
    "comma-at-the-end-of-rows.csv": FRAME.to_csv(index=False).replace("\n", ",\n").replace(",\n", "\n", 1),
    "text-with-commas.csv": FRAME.assign(note="one, or two")[["note", *NAMES]].to_csv(index=False),
    "tabs.tsv": FRAME.to_csv(index=False, sep="\t"),
    "comma-at-the-end.csv": "".join(f"{line},\n" for line in FRAME.to_csv(index=False, header=False).splitlines()),
    "no-heading-first.csv": FRAME.assign(label=LABELS)[["label", *NAMES]].to_csv(index=False, header=False),
    "no-heading-last.csv": FRAME.assign(label=LABELS).to_csv(index=False, header=False),
}


def test_a_table_in_one_endless_line_is_refused_at_once(tmp_path):
    file = tmp_path / "line.csv"
    file.write_text("0," * (pixel_tables.MAX_LINE // 2 + 1))
    with pytest.raises(InputError, match=r"line.csv begins with a line of 10,000,000 characters"):
        next(image_files.blocks(file, (28, 28)))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_never_shifted(tmp_path, name, compressed):
    content = TABLES[name].encode()
    file = tmp_path / (f"{name}.gz" if compressed else name)
    file.write_bytes(gzip.compress(content) if compressed else content)
    (block,) = image_files.blocks(file, (28, 28))
    assert np.array_equal(block.images.reshape(30, 784), PIXELS)


def test_a_table_that_can_be_read_in_two_ways_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("0," + ",".join(["9"] * 783) + ",0\n")
    with pytest.raises(InputError, match="the first or the last may be the label: give the columns names"):
        list(image_files.blocks(tmp_path / "x.csv", (28, 28)))
    (tmp_path / "y.csv").write_text("size,weight,colour\n1,2,3\n")
    with pytest.raises(InputError, match="rows of 3 values"):
        list(image_files.blocks(tmp_path / "y.csv", (28, 28)))


def test_rows_longer_than_the_heading_are_refused(tmp_path):
    heading, *rows = FRAME.to_csv(index=False).splitlines()
    shifted = [f'"{number}",{row}' for number, row in enumerate(rows, start=1)]
    for rows_of, says in (
        (shifted, r"rows of 785 values under a heading of 784 names: name every column"),
        ([*rows[:5], f"{rows[5]},0"], "Expected 784 fields in line 7, saw 785"),
    ):
        (tmp_path / "r.csv").write_text("\n".join([heading, *rows_of]))
        with pytest.raises(InputError, match=says):
            list(image_files.blocks(tmp_path / "r.csv", (28, 28)))


NEAR_A_TABLE = st.text("0123456789.,;-\t\n\"'eEaN ", max_size=200).map(str.encode)
BYTES = st.one_of(st.binary(max_size=300), NEAR_A_TABLE)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.npy", "x.npz", "x.png", "x.tiff", "x.idx"])
@settings(max_examples=60)
@given(
    content=BYTES,
    head=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08", b"II*\x00", b"PK\x03\x04", b"PK\x05\x06"]
    ),
)
@example(content=b"", head=b"PK\x03\x04")
def test_arbitrary_bytes_are_read_or_refused_in_a_sentence(tmp_path, name, head, content):
    file = tmp_path / name
    file.write_bytes(head + content)
    try:
        for block in image_files.blocks(file, (28, 28)):
            assert block.images.dtype == np.uint8
    except InputError as error:
        assert str(error).startswith(str(file))


@settings(max_examples=30)
@given(where=st.integers(8, 400), byte=st.integers(0, 255))
def test_a_damaged_picture_is_read_or_refused_in_a_sentence(where, byte):
    pixels = np.full((60, 60), 240, np.uint8)
    pixels[10:50, 25:32] = 20
    content = bytearray(encoded(Image.fromarray(pixels)))
    content[where % len(content)] = byte
    try:
        read_picture(grey.read(bytes(content), name="it"), (28, 28), name="it", characters=True)
    except InputError as error:
        assert str(error).startswith("it ")


def test_images_of_the_models_own_form_are_left_as_they_are(digits):
    for image in digits.images[:50]:
        reading = read_picture(image, (28, 28), name="it", characters=True)
        whole = [at for at, one in enumerate(reading.framed) if one.image is image]
        assert len(whole) == 1
    assert as_it_is(digits.images[0]).boxes.tolist() == [[0, 0, 28, 28]]


def test_temperature_makes_probabilities_as_often_right_as_they_say():
    random = np.random.default_rng(0)
    truth = random.normal(0, 2, (20_000, 10))
    targets = np.array([random.choice(10, p=p) for p in np.exp(log_softmax(truth, axis=1))])
    shy = log_softmax(truth / 3, axis=1)
    found = calibrate(shy, targets)
    assert found.temperature == pytest.approx(1 / 3, rel=0.05)
    assert classification.calibration_error(shy, targets) > 0.1
    assert classification.calibration_error(found.apply(shy), targets) < 0.02
    sure = np.exp(found.apply(shy)).max(1) >= found.sure_from
    assert sure.mean() == pytest.approx(SURE_SHARE, abs=0.001)


def test_what_is_unlike_the_training_images_has_smaller_probabilities():
    torch.manual_seed(0)
    network = models.get("mlp").build(num_classes=3, image_size=4).eval()
    inputs, targets = torch.rand(60, 1, 4, 4), torch.arange(60) % 3
    with torch.inference_mode():
        typical = calibrated.typical(network.forward_features(inputs), targets)
        model = calibrated.Calibrated(network, temperature=0.5, typical=typical)
        logits, novelty = model.examine(inputs)
        assert torch.equal(logits, network(inputs)) and novelty.median().item() == pytest.approx(1, abs=0.01)
        assert torch.allclose(model(inputs), logits / (0.5 * novelty))
        assert model.examine(-inputs)[1].min() > novelty.max()
        assert torch.equal(model(-inputs).argmax(1), network(-inputs).argmax(1))


def test_without_typical_images_all_are_as_usual():
    network, inputs = torch.nn.Linear(4, 3), torch.rand(5, 4)
    assert torch.equal(calibrated.Calibrated(network, temperature=2.0)(inputs), network(inputs) / 2)


def test_rows_without_an_image_say_so():
    assert pixel_tables.image_size(784, (None, None)) == (28, 28)
    assert pixel_tables.image_size(12, (3, 4)) == (3, 4)
    assert pixel_tables.image_size(12, (28, 28)) is None


def test_arrays_of_colour_are_read_and_ambiguous_ones_refused(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28)).astype(np.uint8)
    assert np.array_equal(read_array(tmp_path, np.repeat(images[..., None], 3, 3)), images)
    assert np.array_equal(read_array(tmp_path, np.repeat(images[0, ..., None], 3, 2)), images[:1])
    with pytest.raises(InputError, match="30 images of 16 x 16 px or one picture"):
        read_array(tmp_path, np.zeros((30, 256), np.uint8))


def test_columns_of_pixels_are_read_by_their_names_whatever_is_beside_them(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    named = pd.DataFrame(images.reshape(5, -1), columns=[f"pixel{at}" for at in range(784)])
    numbered = pd.DataFrame(images.reshape(5, -1))
    for table, index in (
        (named[sorted(named.columns)], False),
        (named.assign(writer="me", label="one"), False),
        (numbered, False),
        (numbered, True),
    ):
        table.to_csv(tmp_path / "a.csv", index=index)
        (block,) = image_files.blocks(tmp_path / "a.csv", (28, 28))
        assert np.array_equal(block.images, images)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"label,pixel0\n", "has rows of|no images"), (b"<html>", "web page"), ("1,2".encode("utf-16"), "UTF-16")],
)
def test_tables_without_images_are_refused_in_words(tmp_path, content, says):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(image_files.blocks(tmp_path / "a.csv", (28, 28)))


@pytest.mark.parametrize("form", ["TIFF", "WEBP", "PNG"])
def test_of_several_pages_none_is_taken_for_all(form):
    pages = [Image.new("L", (40, 40), value) for value in (0, 255)]
    file = io.BytesIO()
    pages[0].save(file, form, save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="2 pages or frames"):
        grey.read(file.getvalue(), name="it")


def test_a_picture_too_large_to_open_says_so():
    with pytest.raises(InputError, match="is too large"):
        grey.read(encoded(Image.new("1", (20_000, 10_000))), name="it")
