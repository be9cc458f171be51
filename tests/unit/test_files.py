"""Files for programs of others say what the pages and requirements say."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from support import PROJECT

README = (PROJECT / "README.md").read_text()
DOCKERFILE = (PROJECT / "docker" / "Dockerfile").read_text()


def test_public_ci_runs_the_two_commands_and_the_checks():
    jobs = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    run = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    first, second = (block.strip() for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)[:2])
    assert {first, second} <= set(run)
    for check in ("ruff check .", "ruff format --check .", "lint-imports", "mypy pipeline models"):
        assert any(check in command for command in run), check


def test_images_have_the_versions_that_are_tested():
    pins = {
        line.split("#")[0].strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (PROJECT / name).read_text().splitlines()
    }
    named = set(re.findall(r"[\w-]+(?:\[\w+\])?==[\w.]+", DOCKERFILE))
    assert len(named) >= 6 and named <= pins
    for copied in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, flags=re.MULTILINE):
        assert all((PROJECT / name).exists() for name in copied.split()), copied


def test_the_server_has_the_settings_of_its_page():
    services = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())["services"]
    assert set(services) == {"database", "bucket", "server"}
    page = (PROJECT / "docs" / "server.md").read_text()
    assert set(services["server"]["environment"]) <= set(re.findall(r"^(\w+)=", page, flags=re.MULTILINE))
    # Nothing is open to others than this machine.
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:5000:5000"]
    assert f"FROM base AS {services['server']['build']['target']}\n" in DOCKERFILE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "known"), [("digit-comparison pro", "promote"), ("digit-comparison train --ep", "--epochs")]
)
def test_the_shell_completes_commands_and_options(tmp_path, typed, known):
    (script,) = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    variable = f"_{script}_COMPLETE".replace("-", "_").upper()
    assert f"{variable}=bash_source {script}" in (PROJECT / "docs" / "getting-started.md").read_text()
    program = tmp_path / script
    program.write_text("from pipeline.cli.commands import main\nmain()\n")
    environment = {variable: "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    out = subprocess.run(
        [sys.executable, program],
        env=os.environ | environment | {"PYTHONPATH": str(PROJECT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f"plain,{known}" in out.splitlines()
