"""Registered models: writing, finding, loading, judging and exporting them."""
