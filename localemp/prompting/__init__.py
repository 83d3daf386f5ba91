"""The texts of prompts (`prompts/*.toml`) and the layouts that they are written in."""
