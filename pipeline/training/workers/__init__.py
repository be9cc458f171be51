"""Who does the trainings of a study and the parts of a search, where, and what of it is seen."""
