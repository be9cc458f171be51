"""Random changes of whole batches that leave a digit the same digit."""

import math

import torch
from torch import Generator, Tensor

# Of MNIST's size, where the digit fills 20 of 28 px; fractions of the image otherwise.
MAX_SHIFT = 2 / 28
MAX_ROTATION = math.radians(12)
MAX_SCALING = 0.12
MAX_SHEAR = 0.15


def augment(images: Tensor, kind: str, generator: Generator) -> Tensor:
    """Change each image by its own random amount.

    Args:
        images: (N, H, W) with values 0 to 255.
        kind: none; shift, by whole pixels; affine, that is shift by any amount, rotate, scale and shear.
        generator: source of the amounts, on the device of the images.

    Returns:
        (N, H, W) with values 0 to 255, of the images' own type for none and shift, float for affine.
    """
    if kind == "none":
        return images
    return shift(images, generator) if kind == "shift" else affine(images, generator)


def shift(images: Tensor, generator: Generator) -> Tensor:
    """Move each image by whole pixels, which costs a ninth of resampling it."""
    n, *size = images.shape
    rows, columns = (round(MAX_SHIFT * side) for side in size)
    padded = torch.nn.functional.pad(images, (columns, columns, rows, rows))
    # Every window of the padded image is one of its shifts.
    windows = padded.unfold(1, size[0], 1).unfold(2, size[1], 1)
    down, right = (
        torch.randint(2 * most + 1, (n,), generator=generator, device=images.device) for most in (rows, columns)
    )
    return windows[torch.arange(n, device=images.device), down, right]


def affine(images: Tensor, generator: Generator) -> Tensor:
    """Resample each image through its own affine map."""
    n = len(images)

    def uniform(largest: float) -> Tensor:
        return (torch.rand(n, generator=generator, device=images.device) * 2 - 1) * largest

    # affine_grid's coordinates run from -1 to 1, so a shift of the whole image is 2.
    offset = torch.stack([uniform(2 * MAX_SHIFT), uniform(2 * MAX_SHIFT)], 1)
    angle, scale, shear = uniform(MAX_ROTATION), 1 + uniform(MAX_SCALING), uniform(MAX_SHEAR)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    linear = torch.stack([cos, cos * shear - sin, sin, sin * shear + cos], 1).view(n, 2, 2)
    grid = torch.nn.functional.affine_grid(
        torch.cat([linear, offset[:, :, None]], 2), [n, 1, *images.shape[1:]], align_corners=False
    )
    return torch.nn.functional.grid_sample(images[:, None].float(), grid, align_corners=False)[:, 0]
