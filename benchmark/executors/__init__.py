"""Executors: where the runs of a plan are carried out."""
