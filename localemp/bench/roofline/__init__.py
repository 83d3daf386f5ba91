"""The upper bounds set by hardware and model: operations, bytes, bandwidth."""
