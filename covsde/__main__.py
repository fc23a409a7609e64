"""`python -m covsde`, the same as the command `covsde`."""

from covsde.cli import entry

if __name__ == "__main__":
    entry()
