"""Fine-tuning: a trained network's features, a new classifier on them, then all of its layers."""
