"""A registered model in formats that other runtimes read, from raw pixels to class probabilities."""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data import sources
from pipeline.errors import InputError, PipelineError, first_line
from pipeline.files import output_file
from pipeline.registry.evaluate import fitted
from pipeline.registry.loading import RegisteredModel

CHECKED = 100
CHECKED_AT_ONCE = (1, 15, 16, 17, CHECKED)
TOLERANCE = 1e-4
MAX_BATCH = 65_536
ONNX_REQUIREMENTS = "requirements-onnx.txt"


class Probabilities(nn.Module):
    """A classifier from raw images to the probability of each class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W), 0 black to 255 white, to float32 (N, classes)."""
        return self.network(images).softmax(1)


def export(model: RegisteredModel, path: Path, form: str) -> float:
    """Write a model in another format and check the file against the original.

    Args:
        form: one of FORMATS.
        path: appears when the check has passed.

    Returns:
        the largest difference of a probability on CHECKED images.

    Raises:
        InputError: the format cannot hold this architecture, or a package is missing.
        PipelineError: the file answers otherwise than the original.
    """
    if model.task == "detection":
        raise InputError(
            f"{model.label} cannot be exported as {form}: how many regions a detector looks at depends on the image, "
            "which the format cannot hold; serve it with `mlflow models serve`."
        )
    network = Probabilities(model.network).eval().cpu()
    # The embedded digits: no network, and real ink whatever the model was trained on.
    images = fitted(sources.digits(Path()).test.subset(np.arange(CHECKED)), model.shape).images
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    write, read = FORMATS[form]
    with output_file(path) as temporary, _quiet():
        try:
            # Two images: of one, some would take the number for a constant.
            write(network, torch.from_numpy(images[:2]), temporary)
        except ImportError as error:
            raise InputError(
                f"The format {form} needs the package {error.name}: pip install -r {ONNX_REQUIREMENTS}."
            ) from error
        except Exception as error:
            # The exporters fail in arbitrary ways at what they cannot express.
            raise InputError(f"{model.label} cannot be exported as {form}: {first_line(error)}.") from error
        answer = read(temporary)
        # Some runtimes compute one image, or a number that no vector register divides, in ways of their own.
        difference = max(float(np.abs(answer(images[:size]) - expected[:size]).max()) for size in CHECKED_AT_ONCE)
        if not difference <= TOLERANCE:
            raise PipelineError(
                f"{model.label} as {form} answers otherwise than the original, by up to {difference:.2g} in the "
                f"probabilities of {CHECKED} images: nothing was written."
            )
    return difference


def _write_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    # Before the exporter says it in many lines.
    for package in ("onnx", "onnxscript", "onnxruntime"):
        importlib.import_module(package)
    torch.onnx.export(
        network,
        (images,),
        str(path),
        dynamo=True,
        dynamic_shapes=_any_number(),
        external_data=False,
        input_names=["images"],
        output_names=["probabilities"],
        verbose=False,
    )


def _read_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _write_pt2(network: nn.Module, images: Tensor, path: Path) -> None:
    program = torch.export.export(network, (images,), dynamic_shapes=_any_number())
    with tempfile.TemporaryDirectory() as folder:
        # It insists on this ending.
        named = Path(folder, "model.pt2")
        torch.export.save(program, named)
        path.write_bytes(named.read_bytes())


def _read_pt2(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def _write_torchscript(network: nn.Module, images: Tensor, path: Path) -> None:
    with torch.no_grad():
        torch.jit.trace(network, images, check_trace=False).save(str(path))


def _read_torchscript(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    module = torch.jit.load(str(path))
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def _any_number() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("images", min=1, max=MAX_BATCH)},)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' own remarks to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


# By name: what writes the format, and what reads it back for the check.
FORMATS = {
    "onnx": (_write_onnx, _read_onnx),
    "pt2": (_write_pt2, _read_pt2),
    "torchscript": (_write_torchscript, _read_torchscript),
}
