"""Many trainings: sweeps, recipes side by side, clusters."""
