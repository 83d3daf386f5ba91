"""vLLM's own benchmarks, as a check of ours."""
