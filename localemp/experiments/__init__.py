"""Experiments: many runs from one plan, on one engine for each model."""
