"""A trained network as a file: what it says of its use, and loading it."""
