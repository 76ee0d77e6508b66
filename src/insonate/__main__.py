"""`python -m insonate` is the command `insonate`."""

from insonate.cli import main

if __name__ == "__main__":
    main()
