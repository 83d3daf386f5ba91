"""Runs vLLM in this process, or helps to run its server."""
