"""A user's copy of a data set: import it, download it, compare it with the manifest."""
