"""Builders of the published manifests: ``python -m data_manifests.builders DATASET``."""

VERSION = "1.0"  # of every data set that the builders write
