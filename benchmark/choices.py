"""The words that can be chosen for a device and for isolation, from Python and the command line."""

DEVICES = ("auto", "cpu", "cuda")
ISOLATION = ("auto", "required")
