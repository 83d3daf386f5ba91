"""Asks a service through its Batch API: files of requests, answered within a day at a lower price."""
