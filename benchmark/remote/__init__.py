"""Runs on other machines: chains of runs are pulled by nodes, and what comes back is verified."""
