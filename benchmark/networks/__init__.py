"""Networks: their names on the command line, and the modules that they build."""
