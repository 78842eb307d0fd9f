"""Submissions: folders with runs of a method from outside, and the checks that they must pass.

Nothing here imports or runs the submitted code. Loads no torch.
"""
