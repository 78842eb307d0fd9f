"""Builder of the embedded data set ``icons``."""

VERSION = "2.0"
