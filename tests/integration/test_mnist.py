"""Real digits: what the small sets cannot show."""

import mlflow
import pandas as pd
from support import MNIST, needs_mnist, only_run


@needs_mnist
def test_the_cnn_learns_mnist_from_ten_thousand_images(environment, command):
    command("train", "--model", "cnn", "--dataset", str(MNIST), "--limit", "10000", "--epochs", "3")
    run = only_run()
    assert run.data.metrics["test/accuracy"] >= 0.97
    predictions = mlflow.MlflowClient().download_artifacts(run.info.run_id, "predictions.csv")
    assert len(pd.read_csv(predictions)) == 10_000, "the whole test file"
