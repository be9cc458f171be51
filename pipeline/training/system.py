"""What a machine does while it trains: processor, memory, disk, network and GPU, sampled for the journal."""

import threading
from contextlib import suppress
from types import TracebackType

from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from pipeline.tracking.journal import Journal
from pipeline.tracking.runs import finite, now_ms


class SystemMetrics:
    """Samples MLflow's own monitors in a thread, as long as its context lasts.

    MLflow's logger of them ends at the first request that fails; a journal keeps them all.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or 5.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._sample, name="system metrics", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()

    def _sample(self) -> None:
        monitors = create_monitors()
        # A training that goes on counts on.
        step = len(self.journal.said("system"))
        while not self.ended.wait(self.interval):
            points = []
            for monitor in monitors:
                monitor.collect_metrics()
                points += [
                    (f"system/{name}", value, now_ms(), step) for name, value in monitor.aggregate_metrics().items()
                ]
                monitor.clear_metrics()
            self.journal.say("system", {"points": finite(points)})
            step += 1


def create_monitors() -> list[BaseMetricsMonitor]:
    """Those that this machine has something for."""
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    # It raises whatever NVIDIA's library does where there is no GPU.
    with suppress(Exception):
        monitors.append(GPUMonitor())
    return monitors
