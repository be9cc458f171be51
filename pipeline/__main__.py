"""`python -m pipeline ENTRY --name value`: the same commands as `mlflow run . -e ENTRY -P name=value`."""

from pipeline.cli.commands import main

if __name__ == "__main__":
    main()
