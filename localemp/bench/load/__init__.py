"""Load tests of an OpenAI-compatible server."""
