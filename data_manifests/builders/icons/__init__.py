"""Builder of the embedded data set ``icons``."""
