"""`python -m pipeline ENTRY --name value`: the same commands as `mlflow run . -e ENTRY -P name=value`."""

from pipeline.cli.commands import main
from pipeline.ending import QuickEnd


def command_line() -> None:
    """Run a command in a process that is there for it alone."""
    with QuickEnd():
        main()


if __name__ == "__main__":
    command_line()
