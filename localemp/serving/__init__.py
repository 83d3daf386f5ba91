"""An OpenAI endpoint where every strategy is a model name."""
