"""What a trained network is worth: predictions, scores, significance, calibration, attention."""
