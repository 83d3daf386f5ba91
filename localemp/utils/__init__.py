"""Shared helpers: parsing untrusted input, writing files safely, text, progress."""
