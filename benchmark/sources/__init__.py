"""Source models: training, importing, features."""
