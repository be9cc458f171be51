"""What a model costs: size, arithmetic, time to answer, memory, energy, training time until it is good."""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from pipeline.metrics.epoch import Epoch

# On one thread a time says something about the model, and not about how many cores happened to be free.
THREADS = 1
WARM_UP = 5
ANSWERS = 100
# Fewer say nothing about a twentieth of them.
MIN_ANSWERS = 20
MAX_SECONDS = 0.3
BATCH = 32
# Shares of the validation images that are worth knowing the time until.
GOALS = (0.95, 0.98, 0.99)
MEGABYTE = 1e6


@torch.inference_mode()
def profile_inference(network: nn.Module, images: np.ndarray) -> dict[str, float]:
    """Size, arithmetic and speed of a network that takes raw images, where it is, in evaluation mode.

    Args:
        network: takes uint8 (N, H, W).
        images: uint8 (N, H, W) to answer for.

    Returns:
        `parameters`; `flops` of one image, a multiplication and an addition counting as two, of matrix products and
        convolutions only, as torch counts them; `size_mb` of the weights; `latency_p50_ms` and `latency_p95_ms` of one
        image by itself; `images_per_second` in batches; `threads` that these two were measured with.
    """
    # Only here: it brings triton along, which takes a second.
    from torch.utils.flop_counter import FlopCounterMode

    device = next(network.parameters()).device
    one, many = (torch.from_numpy(np.resize(images, (count, *images.shape[1:]))) for count in (1, BATCH))

    def seconds(inputs: torch.Tensor, most: int, least: int = 1) -> list[float]:
        times: list[float] = []
        spent = 0.0
        while len(times) < most and (spent < MAX_SECONDS or len(times) < least):
            started = time.perf_counter()
            # To the device and back, as for whoever asks.
            network(inputs.to(device)).cpu()
            times.append(time.perf_counter() - started)
            spent += times[-1]
        return times

    with FlopCounterMode(display=False) as counter:
        network(one.to(device))
    with threads(THREADS):
        seconds(one, WARM_UP)
        single = seconds(one, ANSWERS, least=MIN_ANSWERS)
        seconds(many, 1)
        batch = seconds(many, WARM_UP)
    weights = network.state_dict().values()
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": counter.get_total_flops(),
        "size_mb": sum(value.numel() * value.element_size() for value in weights) / MEGABYTE,
        "latency_p50_ms": 1000 * float(np.percentile(single, 50)),
        "latency_p95_ms": 1000 * float(np.percentile(single, 95)),
        "images_per_second": BATCH / float(np.median(batch)),
        "threads": THREADS,
    }


def machine(device: torch.device, *, processes: int = 1) -> str:
    """What computes: the name of the GPU, or that of the processor and how many of its cores are used.

    Args:
        processes: of one training, each with a GPU or as many threads as this one.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return name if processes == 1 else f"{processes} x {name}"
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    usable = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else range(psutil.cpu_count())
    count, used = len(usable), min(torch.get_num_threads() * processes, len(usable))
    return f"{name}, {count} cores" if used == count else f"{name}, {used} of {count} cores"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds_to_goals(history: Sequence[Epoch]) -> dict[str, float]:
    """Seconds of training and validation until the accuracy on validation images reached each of GOALS, if it did."""
    elapsed = np.cumsum([epoch.seconds for epoch in history])
    reached = {goal: [epoch.metrics["val/accuracy"] >= goal for epoch in history] for goal in GOALS}
    return {f"to_{goal * 100:.0f}_s": float(elapsed[hits.index(True)]) for goal, hits in reached.items() if any(hits)}


class Meter:
    """Peak memory and energy from its making on, as far as the machine tells; both are of the whole process or chip.

    Memory is that of the GPU's tensors, or of the process where it computes on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.joules = 0.0
        self.last = counters(device)
        self.forgotten = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            # Linux forgets the highest use so far when asked to.
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
                self.forgotten = True

    def update(self) -> None:
        """Add what was used since the last call; often enough that no counter overflows twice in between."""
        now = counters(self.device)
        for name, (value, size) in now.items():
            used = value - self.last.get(name, (value, size))[0]
            self.joules += used if used >= 0 else used + size
        self.last = now

    def read(self) -> dict[str, float]:
        """`peak_memory_mb` and `energy_j`, each only where the machine tells it."""
        found = {"energy_j": self.joules} if self.last else {}
        if self.device.type == "cuda":
            return found | {"peak_memory_mb": torch.cuda.max_memory_allocated(self.device) / MEGABYTE}
        if self.forgotten:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    found["peak_memory_mb"] = int(line.split()[1]) * 1024 / MEGABYTE
        return found


def counters(device: torch.device) -> Mapping[str, tuple[float, float]]:
    """Energy counters of the device: joules so far, and at how many the counter begins anew; none where not offered."""
    found: dict[str, tuple[float, float]] = {}
    if device.type == "cuda":
        import pynvml

        with suppress(pynvml.NVMLError, AttributeError):
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            found["gpu"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, 0.0
    elif device.type == "cpu":
        # Linux lets only root read these on most machines.
        for zone in Path("/sys/class/powercap").glob("intel-rapl:?"):
            with suppress(OSError, ValueError):
                # Of whole processors: other zones are parts of them, or hold them.
                if not Path(zone, "name").read_text().startswith("package"):
                    continue
                used, size = (int(Path(zone, name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
                found[zone.name] = used / 1e6, size / 1e6
    return found
