"""Commonsense inferences: COMET, and files of precomputed inferences."""
