"""The published manifests: images, classes, splits and tasks of each data set."""
