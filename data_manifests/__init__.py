"""The published manifests: which images, classes, splits and tasks each data set has."""
