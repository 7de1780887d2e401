"""Many trainings: sweeps (Optuna), recipes side by side, clusters (Ray).

May know everything below: data, models, training, evaluation, tracking, reporting and serving.
"""
