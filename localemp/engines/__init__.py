"""Engines that answer messages: vLLM in this process, an OpenAI-compatible server, a script for tests."""
