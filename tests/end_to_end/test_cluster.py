"""A study on a real Ray cluster of several nodes on this machine: the same numbers, whoever is killed."""

import re
import time
from contextlib import suppress

import mlflow
import psutil
import pytest
from support import STUDY, free_port, left_in, only_run, pipeline, pipeline_process, tracking_server, wait_for_line

from benchmarks.weather import recorded


def trains(kind: str) -> psutil.Process:
    """The process that does the first training or trial that is not finished, as its lease says."""
    while True:
        for run in mlflow.MlflowClient().search_runs(["0"], f"tags.kind = '{kind}'", order_by=["start_time"]):
            if run.info.status != "FINISHED":
                with suppress(psutil.NoSuchProcess):
                    return psutil.Process(int(re.search(r"process (\d+)", run.data.tags["lease"])[1]))
        # What has just begun, or gone on elsewhere, says so in a moment.
        time.sleep(0.2)


@pytest.mark.timeout(600)
def test_node_server_study_and_cluster_are_killed_and_the_numbers_are_those_of_one_machine(
    environment, cluster, undisturbed, bars, monkeypatch
):
    study = [*STUDY, "--dataset", str(bars)]
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    first = cluster(2)
    with tracking_server(environment, port=port):
        process = pipeline_process(*study, "--engine", "ray", "--address", first.address)
        wait_for_line(process, "epoch  2/40")
        # The node: what trains there dies with it, and Ray has it gone on with elsewhere.
        trains("training").parent().kill()
        wait_for_line(process, "resuming")
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                psutil.Process(connection.pid).kill()
        wait_for_line(process, "epoch 20/40")
        process.kill()
        process.communicate(timeout=60)
    first.shutdown()

    # From outside, as docs/clusters.md says.
    client, agent = free_port(), free_port()
    cluster(2, head={"ray_client_server_port": client, "runtime_env_agent_port": agent})
    with tracking_server(environment, port=port) as uri:
        out, _ = pipeline(*study, "--engine", "ray", "--address", f"ray://127.0.0.2:{client}")
        assert out.count("images right") + out.count("finished before") == 2 and "epoch  1/40" not in out
        assert only_run("study").info.status == "FINISHED"
        assert left_in(environment) == []
        assert recorded(uri) == recorded(undisturbed)


@pytest.mark.timeout(600)
def test_two_share_a_gpu_and_what_a_cluster_cannot_do_is_a_sentence(environment, cluster, mistake, bars):
    study = ["main", "--models", "mlp", "--seeds", "2", "--epochs", "300", "--batch-size", "8", "--val-size", "20"]
    study += ["--dataset", str(bars), "--engine", "ray"]
    assert "Nothing answers at address=127.0.0.2:1" in mistake(*study, "--address", "127.0.0.2:1", code=2)

    # A GPU that is only said to be there: what is shared is Ray's to count.
    made = cluster(1, num_cpus=2, num_gpus=1)
    study += ["--address", made.address]
    says = mistake(*study, "--cpus", "3", code=2)
    assert "has room for a training with cpus=3 and gpus=0: the largest have 2 and 1" in says
    process = pipeline_process(*study, "--gpus", "0.5")
    said: list[str] = []
    while sum("training on cpu" in line for line in said) < 2:
        said.append(next(process.stdout))
    assert "images right" not in "".join(said)
    # As a node that is told to go does it.
    wait_for_line(process, "epoch")
    trains("training").terminate()
    wait_for_line(process, "resuming")
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in err, err

    out, _ = pipeline(*study, "--gpus", "0.5")
    assert out.count("images right") + out.count("finished before") == 2 and "epoch   1/300" not in out

    # Machines without anything in common.
    made.add_node(node_ip_address="127.0.0.3", num_cpus=1)
    assert "a database in a file: start an MLflow server" in mistake(*study, "--epochs", "3", code=2)


@pytest.mark.timeout(600)
def test_who_began_a_study_is_told_that_its_cluster_is_gone(environment, cluster, bars):
    study = ["main", "--models", "mlp", "--epochs", "5000", "--batch-size", "8", "--val-size", "20", "--engine", "ray"]
    made = cluster(1)
    # Ray waits a minute for a head that may come back.
    waits = {"RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
    process = pipeline_process(*study, "--dataset", str(bars), "--address", made.address, env=waits)
    wait_for_line(process, "epoch")
    made.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    _, err = process.communicate(timeout=240)
    assert process.returncode != 0 and "run the same command again" in err and "Traceback" not in err, err


@pytest.mark.timeout(600)
def test_a_search_over_nodes_loses_no_trial_when_one_is_killed(environment, cluster, bars):
    made = cluster(2)
    search = [
        "tune",
        "--model",
        "mlp",
        "--epochs",
        "100",
        "--batch-size",
        "8",
        "--val-size",
        "20",
        "--dataset",
        str(bars),
    ]
    process = pipeline_process(*search, "--trials", "4", "--seeds", "1", "--engine", "ray", "--address", made.address)
    wait_for_line(process, "] trial 1:")
    trains("trial").parent().kill()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    runs = mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'trial'")
    assert sorted(run.info.run_name for run in runs if " trial " in run.info.run_name) == [
        f"mlp trial {n}" for n in range(4)
    ]
    assert {run.info.status for run in runs} == {"FINISHED"} and only_run("search").info.status == "FINISHED"
