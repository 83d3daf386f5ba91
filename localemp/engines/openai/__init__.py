"""Client for any server with the OpenAI API, hosted or self-hosted."""
