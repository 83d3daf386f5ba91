"""A reverse proxy to an upstream: one or several OpenAI-compatible servers."""
