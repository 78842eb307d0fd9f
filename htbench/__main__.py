"""``python -m htbench`` is the command `htbench`."""

from htbench.cli.main import main

if __name__ == "__main__":
    main()
