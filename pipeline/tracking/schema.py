"""Names of tags, metrics and artifacts, each once."""

# Tags, and the kinds of run they tell apart.
KIND, STUDY, TRAINING, PREPARATION, LAUNCH = "kind", "study", "training", "preparation", "launch"
EVALUATION = "evaluation"
# The vote of several trainings, in the place of an architecture as well, and the versions that vote.
ENSEMBLE, MEMBERS = "ensemble", "members"
# A search, and the trainings on validation alone that it tries recipes with.
SEARCH, SEARCH_TRIAL = "search", "trial"
# Runs that others belong to: each has a key, by which it is found again.
PARENTS = (STUDY, SEARCH)
STUDY_KEY, CONFIG_KEY, RECIPE_KEY = "study_key", "config_key", "recipe_key"
ARCHITECTURE, TASK, DATASET, DATASET_SHA256 = "architecture", "task", "dataset", "dataset_sha256"
# Where the data set was read.
SOURCE = "dataset_source"
# The protocol's hash; its fields and what the training may spend, as JSON.
PROTOCOL, PROTOCOL_FIELDS, BUDGET = "protocol", "protocol_fields", "budget"
# What scenes a detector was examined on, as JSON.
SCENES = "scenes"
# Of a training whose model gets no version.
TRIAL = "trial"
# How many test images are training images as well, where there are such.
REPEATED = "test_images_also_in_train"
# Of a training with a tuned recipe, what was spent on it, as JSON.
TUNING = "tuning"
# What weights a training started from.
LINEAGE = "lineage"
MODEL_URI = "model_uri"
DEVICE, MACHINE, TORCH, TORCHVISION = "device", "machine", "torch", "torchvision"
# How many trained it together, where it was not one.
PROCESSES = "processes"
OWNER, COMMAND, FAILURE = "owner", "command", "failure"
# What a run or a logged model is found by where the answer to its creation was lost: the key of the journal that it was
# recorded from, where there is one. And who trains it now.
JOURNAL, LEASE = "journal", "lease"
# Of a study, the row of its comparison that is best.
LEADER = "leader"
# MLflow's own.
RUN_NAME, PARENT, COMMIT = "mlflow.runName", "mlflow.parentRunId", "mlflow.source.git.commit"
DESCRIPTION, MODEL_VERSIONS = "mlflow.note.content", "mlflow.modelVersions"
USER, LAUNCHED_FROM, ENTRY_POINT = "mlflow.user", "mlflow.source.name", "mlflow.project.entryPoint"
# Accuracy on corrupted test images begins with the first, and began with the second, which led all charts.
CORRUPTED, EARLIER_CORRUPTED = "test_corrupted/", "corruption/"
# Artifacts that are written in one place and read in another.
PREDICTIONS, ERRORS, BEST_EPOCH, REPORT = "predictions.csv", "errors.npz", "best_epoch.json", "report.html"
# As PREDICTIONS, of the validation images.
VALIDATED = "validation_predictions.csv"
TUNED_RECIPE = "recipe.json"
TRACEBACK = "traceback.txt"
# MLflow's limit of rows in one answer.
PAGE = 1000
