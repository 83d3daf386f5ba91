"""What hardware and model allow at most: operations, bytes, bandwidth."""
