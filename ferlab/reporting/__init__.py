"""Figures, tables and pages for people. Reads results, and changes none."""
