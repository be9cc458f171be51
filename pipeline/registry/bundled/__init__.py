"""What a registered model carries along and runs where this project is not installed: it imports nothing of it."""
