"""vLLM's own server, as a child process."""
