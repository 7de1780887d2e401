"""Runs in MLflow, provenance, and what DVC keeps. Projects files; decides no number."""
