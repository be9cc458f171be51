"""Names of tags, metrics and artifacts, each once."""

# Tags, and the kinds of run they tell apart.
KIND, STUDY, TRAINING, PREPARATION, LAUNCH = "kind", "study", "training", "preparation", "launch"
EVALUATION = "evaluation"
STUDY_KEY, CONFIG_KEY, RECIPE_KEY = "study_key", "config_key", "recipe_key"
# What scenes a detector was examined on, as JSON.
SCENES = "scenes"
OWNER, FAILURE = "owner", "failure"
PARENT = "mlflow.parentRunId"
# Artifacts that are written in one place and read in another.
PREDICTIONS, ERRORS, BEST_EPOCH, REPORT = "predictions.csv", "errors.npz", "best_epoch.json", "report.html"
# MLflow's limit of rows in one answer.
PAGE = 1000
