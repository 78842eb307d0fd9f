"""The methods of the suite, one a file, written as any plugin would be."""
