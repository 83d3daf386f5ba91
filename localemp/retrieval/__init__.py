"""Dialogues that are similar in meaning (section 3.3.1)."""
