"""The tracking server: names, connection, writing and reading runs."""
