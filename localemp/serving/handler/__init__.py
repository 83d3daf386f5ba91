"""Answers one request for a strategy: its stages are requests to the wrapped app, the last one becomes the response."""
