"""From a picture's file to grey values in which its ink differs most from its paper."""

import io
from functools import reduce
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence, TiffImagePlugin

from pipeline.data.idx import mistaken_for
from pipeline.errors import InputError

FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
ENDINGS: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff")
HEIF_ENDINGS = (".heic", ".heif")
# What such a file has from its fifth byte on.
HEIF_BRANDS = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"))
HEIF_REQUIREMENTS = "requirements-heic.txt"
try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS, ENDINGS = (*FORMATS, "HEIF"), (*ENDINGS, *HEIF_ENDINGS)

MAX_PIXELS = 50_000_000
# Ink is looked for in each colour on a picture of so many pixels.
SAMPLED_SIDE = 400
# Brightness is what a colour has to beat: a single one is noisier.
MARKEDLY = 1.4
# Strokes stand out so far from the grain; so many in a hundred of their places are as pale as the palest pen's.
STANDS_OUT = 6
PALEST = 5
# Formats in which there may be several pictures, each as good as the first.
PAGED = ("TIFF", "WEBP", "PNG")
# How the files of pictures begin.
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"II*\0", b"MM\0*")
# TIFF's tag NewSubfileType, and its bit for a smaller version of another page.
SUBFILE, REDUCED = 254, 1
# What sensors give in files of 16 bits.
DEPTHS = (8, 10, 12, 14, 16)


def read(source: Path | bytes, *, name: str) -> np.ndarray:
    """A picture as grey values, uint8 (H, W): its brightness, or the colour in which its ink is plainer.

    Raises:
        InputError: it cannot be read or is too large; the text begins with its name.
    """
    try:
        # Only the readers of these formats: the fewer, the less can be tried on them.
        # From a stream: given a path, Pillow maps some files into memory, and turns those that lie on their side wrong.
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            Image.open(file, formats=FORMATS) as picture,
        ):
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(
                    f"{name} has {picture.width} x {picture.height} px: at most {MAX_PIXELS:,} are read; shrink it."
                )
            if (pages := count_pages(picture)) > 1:
                raise InputError(f"{name} has {pages} pages or frames: save each as a picture of its own.")
            upright = ImageOps.exif_transpose(picture)
            if upright.mode[0] in "IF":
                return of_depth(np.asarray(upright), name)
            if upright.has_transparency_data:
                upright = on_paper(upright.convert("RGBA"))
            if upright.mode in ("1", "L"):
                return np.array(upright.convert("L"))
            return plainest(np.asarray(upright.convert("RGB")))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} is too large: at most {MAX_PIXELS:,} px are read; shrink it.") from error
    except Exception as error:
        # Arbitrary bytes make the readers fail in arbitrary ways.
        raise InputError(f"{name} {why_unreadable(source, name, error)}.") from error


def count_pages(picture: Image.Image) -> int:
    """How many pictures a file holds; a preview of the first, as scanners and telephones add, is none."""
    if picture.format not in PAGED or getattr(picture, "n_frames", 1) == 1:
        return 1
    pages = 0
    for page in ImageSequence.Iterator(picture):
        pages += not (isinstance(page, TiffImagePlugin.TiffImageFile) and page.tag_v2.get(SUBFILE, 0) & REDUCED)
    picture.seek(0)
    return pages


def why_unreadable(source: Path | bytes, name: str, error: Exception) -> str:
    """What to say of a file that is no picture."""
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    if isinstance(source, Path) and source.is_symlink() and not source.exists():
        return f"is a link to {source.readlink()}, which is not there"
    beginning = source[:64] if isinstance(source, bytes) else b""
    if isinstance(source, Path) and source.is_file():
        with source.open("rb") as file:
            beginning = file.read(64)
    if "HEIF" not in FORMATS and (name.lower().endswith(HEIF_ENDINGS) or beginning[4:].startswith(HEIF_BRANDS)):
        return f"needs a package to be read: pip install -r {HEIF_REQUIREMENTS}"
    if beginning.startswith(SIGNATURES):
        return "is a picture that is damaged or cut off: save or fetch it again"
    return mistaken_for(beginning) or "is no PNG, JPEG, WebP, BMP or TIFF picture that can be read"


def of_depth(values: np.ndarray, name: str) -> np.ndarray:
    """Grey values of more than 8 bits as uint8: the fewest bits that hold them are what the sensor had.

    Raises:
        InputError: none of them is a number; the text begins with the picture's name.
    """
    values = values.astype(np.float64)
    known = values[np.isfinite(values)]
    if not known.size:
        raise InputError(f"{name} has no pixel whose value is a number.")
    # What is missing is more often paper than ink; what is beyond all numbers is the brightest or darkest.
    values = np.nan_to_num(values, nan=np.median(known), posinf=known.max(), neginf=known.min())
    values -= min(0.0, known.min())
    if values.max(initial=0) <= 1:
        return np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    white = next((2.0**bits - 1 for bits in DEPTHS if values.max() < 2**bits), values.max())
    return (values.clip(0) * (255 / white)).astype(np.uint8)


def on_paper(picture: Image.Image) -> Image.Image:
    """An RGBA picture on opaque paper: white, or black under strokes that are light themselves."""
    opacity = np.asarray(picture.getchannel("A"))
    brightness = np.asarray(picture.convert("RGB").convert("L"))
    opaque = brightness[opacity > 127]
    light_strokes = 0 < len(opaque) < opacity.size / 2 and np.median(opaque) > 127
    paper = Image.new("RGBA", picture.size, (0, 0, 0, 255) if light_strokes else (255, 255, 255, 255))
    return Image.alpha_composite(paper, picture).convert("RGB")


def plainest(colours: np.ndarray) -> np.ndarray:
    """Brightness of uint8 (H, W, 3), or the one view of its colours in which the palest ink is markedly plainer.

    A yellow marker is as bright as the paper, but takes its blue away; a red pen beside a blue one is lost in red, and
    the blue one in blue.
    """
    step = max(1, max(colours.shape) // SAMPLED_SIDE)
    sample = colours[::step, ::step]
    paper = np.median(sample, axis=(0, 1))
    plainness = np.stack([_plainness(view) for view in _views(sample, paper)])
    strokes = plainness[:, plainness.max(0) > STANDS_OUT]
    # What a view lacks and another one has is among the palest.
    clarity = np.percentile(strokes, PALEST, axis=1) if strokes.size else np.ones(len(plainness))
    best = int(np.argmax(clarity))
    return np.array(_views(colours, paper)[best] if clarity[best] > MARKEDLY * clarity[0] else _brightness(colours))


def _brightness(colours: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colours).convert("L"))


def _views(colours: np.ndarray, paper: np.ndarray) -> list[np.ndarray]:
    """Brightness, the three colours, and what is darkest and brightest in any of them, the paper being as bright."""
    separate = list(np.moveaxis(colours, 2, 0))
    levels = np.rint(np.arange(256) + (paper.mean() - paper)[:, None]).clip(0, 255).astype(np.uint8)
    alike = [level[colour] for level, colour in zip(levels, separate, strict=True)]
    return [_brightness(colours), *separate, reduce(np.minimum, alike), reduce(np.maximum, alike)]


def _plainness(grey: np.ndarray) -> np.ndarray:
    """How far each place of a picture stands out from its surroundings, its grain being 1."""
    # Here: importing it takes longer than most commands that read no picture.
    from scipy import ndimage

    side = max(3, max(grey.shape) // 8)
    raised = np.abs(grey - ndimage.uniform_filter(grey.astype(np.float32), side))
    return raised / (4 + np.median(raised))
