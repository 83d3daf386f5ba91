"""What several packages need and no library has: reading hostile input, writing files safely."""
