"""Models as raters: prompts, parsing of answers, reliability."""
