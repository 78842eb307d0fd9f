"""Builders of the published manifests: ``python -m data_manifests.builders DATASET``."""

VERSION = "1.0"  # of the data sets that have no other
IWILDCAM_VERSION = "1.1"
