"""What the report says of single test images: which labels may be wrong."""

import numpy as np
import pandas as pd

from pipeline.comparison.page import answers
from pipeline.tracking.training_run import Results, TrainingRun

NAMES = ("mlp", "cnn", "vit")
# Of images that are a 1, what each architecture says is the probability of a 7.
DOUBTED, UNSURE, DIVIDED = 5, 6, 7
SEVEN = {DOUBTED: (0.97, 0.98, 0.96), UNSURE: (0.6, 0.55, 0.6), DIVIDED: (0.99, 0.99, 0.1)}


class Known(Results):
    """Half of a hundred images are a 7, and everybody is right about all others."""

    def read_predictions(self, training: TrainingRun, name: str) -> pd.DataFrame:
        target = np.where(np.arange(100) < 50, "1", "7")
        seven = np.where(target == "7", 0.9, 0.05)
        for image, said in SEVEN.items():
            seven[image] = said[NAMES.index(training.run_id)]
        probabilities = {"probability_1": 1 - seven, "probability_7": seven}
        return pd.DataFrame({"target": target, "prediction": np.where(seven > 0.5, "7", "1"), **probabilities})


def test_a_label_is_doubted_where_all_are_as_sure_of_another_as_they_usually_are():
    newest = {name: TrainingRun(name, name, "FINISHED", {}, {}, {}) for name in NAMES}
    results = Known()
    told = {name: [results.predictions(run)] for name, run in newest.items()}
    assert answers.doubted(told, newest, results) == [DOUBTED]
    alone = {"mlp": told["mlp"]}
    assert answers.doubted(alone, newest, results) == [], "one by itself proves nothing"
