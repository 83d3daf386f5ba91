"""Runs: folders with a manifest and an append-only file of replies."""
