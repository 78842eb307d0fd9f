"""The embedded data set `icons`: how it is built, and its published versions."""
