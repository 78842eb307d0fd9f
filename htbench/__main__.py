"""Lets ``python -m htbench`` run the `htbench` command."""

from htbench.cli.main import main

if __name__ == "__main__":
    main()
