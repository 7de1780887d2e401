"""Comparison, leaderboard, papers, and pages of results. Reads results, and changes none."""
