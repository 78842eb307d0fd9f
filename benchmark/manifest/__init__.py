"""What a benchmark consists of: images, classes, splits, tasks and recipes. Loads no torch."""
