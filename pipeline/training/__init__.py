"""One training and many: where it begins, what it records, who continues it; `engine` does the training itself."""
