"""`python -m wireway` is the command `wireway`."""

from wireway.cli import main

if __name__ == "__main__":
    main()
