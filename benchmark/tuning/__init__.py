"""Choosing hyper-parameters on seen training images."""
