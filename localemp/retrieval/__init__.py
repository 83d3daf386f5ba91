"""Retrieval of semantically similar dialogues (section 3.3.1)."""
