"""Prompt templates (`prompts/*.toml`) and their layouts."""
