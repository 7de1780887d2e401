"""Which official image a face is, and what was done to it."""
