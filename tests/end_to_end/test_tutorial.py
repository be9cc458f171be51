"""Every block of the tutorial, one after another, as it stands."""

import json
import re
import shlex
import shutil
import subprocess
from itertools import pairwise

from support import PROJECT, serving

PAGE = (PROJECT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_block_works_in_turn(environment, command):
    (environment / "docs").mkdir()
    shutil.copy(PROJECT / "docs" / "three.png", environment / "docs")
    said = []
    served = ""
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "tutorial", "exec"), {})
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line)
            if line.startswith("mlflow run . -e "):
                given = [word.split("=", 1) for flag, word in pairwise(words) if flag == "-P"]
                refused = "dry_run=true" in words
                arguments = [part for name, value in given for part in (f"--{name}", value)]
                said.append(command(words[words.index("-e") + 1], *arguments, code=3 if refused else 0))
            elif line.startswith("mlflow models serve"):
                served = line
            else:
                asked = line
    uri, shown_port = re.search(r"-m (\S+) .* --port (\d+)", served).groups()
    with serving(uri) as port:
        answer = subprocess.run(
            ["bash", "-c", asked.replace(shown_port, str(port))], check=True, capture_output=True, text=True
        )
    (shares,) = json.loads(answer.stdout)["predictions"]
    prepared, listed, first, second, compared, reported, promoted, refusal, predicted = said
    assert "360 images" in prepared[0] and "hidden=100" in listed[0]
    assert "of the 360 test images right" in first[0] and "of the 360 test images right" in second[0]
    assert "these are all its trainings" in compared[0] and "Written to" in reported[0]
    assert "Promoted digits-mlp version 1" in promoted[0] and "Not promoted" in refusal[1]
    assert "docs/three.png: 3 (" in predicted[0] and shares.index(max(shares)) == 3
