"""The command `htbench`: one file per noun, the only place that knows all three packages."""
