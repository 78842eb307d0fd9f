"""The `htbench` command, with one module per subcommand."""
