"""The built-in methods, one per file, written like any plugin."""
