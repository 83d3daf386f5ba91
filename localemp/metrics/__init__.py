"""The paper's automatic metrics, and significance tests for the differences between systems."""
