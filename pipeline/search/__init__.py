"""Searches for better recipes: many trainings on validation alone, each with other values."""

from typing import Literal

# What ends trials early; here, so that the command line need not import Optuna to name them.
Pruning = Literal["median", "halving", "hyperband", "none"]
