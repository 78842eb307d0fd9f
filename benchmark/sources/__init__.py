"""Source models: what they are trained on, and how they are shared."""
