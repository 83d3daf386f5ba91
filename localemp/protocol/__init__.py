"""The OpenAI API as servers implement it: the shared parsers of completions, streams and errors."""
