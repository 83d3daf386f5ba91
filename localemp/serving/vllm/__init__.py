"""vLLM's own server, as a separate process."""
