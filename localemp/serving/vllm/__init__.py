"""vLLM's own server, as a process beside ours."""
