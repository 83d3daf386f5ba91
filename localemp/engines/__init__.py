"""Who answers: vLLM in this process, an OpenAI-compatible server, a script for tests."""
