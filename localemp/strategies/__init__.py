"""Prompting strategies (sections 3.2 and 3.3)."""
