"""What a run will take, counted over its real prompts before the engine starts, and what it then took."""
