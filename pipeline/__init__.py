"""Prepare digits, train architectures under one protocol, record them in MLflow, compare them."""
