"""A study whose trainings run side by side: the same numbers, and nothing lost whichever process is killed."""

import re
import signal

import mlflow
import psutil
import pytest
from support import STUDY, left_in, only_run, pipeline, pipeline_process, wait_for_line

from benchmarks.weather import recorded


def trains(process: psutil.Process) -> bool:
    """Whether it is one of those that train, and not what Python keeps beside them, and not dead without a burial."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@pytest.mark.timeout(600)
def test_a_process_is_killed_and_a_study_stopped_and_the_numbers_are_those_of_one_after_the_other(
    environment, undisturbed, bars
):
    study = [*STUDY, "--dataset", str(bars), "--workers", "2"]
    process = pipeline_process(*study)
    wait_for_line(process, "[1/2] cnn          epoch  2/40")
    (run,) = mlflow.MlflowClient().search_runs(["0"], "params.seed = '0'")
    psutil.Process(int(re.search(r"process (\d+)", run.data.tags["lease"])[1])).kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "ended from outside (exit code -9)" in err and out.count("images right") == 1
    assert only_run("study").info.status == "FAILED"

    process = pipeline_process(*study)
    wait_for_line(process, "resuming")
    children = psutil.Process(process.pid).children()
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in out + err
    assert not any(map(trains, children))
    assert only_run("study").info.status == "KILLED"

    pipeline(*study)
    assert left_in(environment) == []
    assert recorded(f"sqlite:///{environment}/mlflow.db") == recorded(undisturbed)
