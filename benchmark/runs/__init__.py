"""Runs: the plan of a grid, the execution of one run in a child, the folder that it leaves."""
