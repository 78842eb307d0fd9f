"""Decoded images on disk, one file per class, as a run reads them."""
