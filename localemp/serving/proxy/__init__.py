"""Requests that are passed on to a server elsewhere, and its answers."""
