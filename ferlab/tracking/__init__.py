"""Runs in MLflow, their provenance, and results by name. Reads finished files; decides no number."""
