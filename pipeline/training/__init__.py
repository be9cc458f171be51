"""One training and many: weights, loop, checkpoint, result, record."""
