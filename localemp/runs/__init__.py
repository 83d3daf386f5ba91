"""Runs: folders with a manifest and append-only replies."""
