"""Manifests of users' own data sets: from a folder or a CSV file of images. Loads no torch."""
