"""From finished trainings to a table, a verdict and a report."""
