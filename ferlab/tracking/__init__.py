"""MLflow runs, provenance, and results by name. Reads finished files, and decides no number."""
