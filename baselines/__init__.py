"""The built-in methods, one per module, which use the same interface as plugins."""
