"""vLLM's own benchmarks, to check ours."""
