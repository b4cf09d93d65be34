"""`python -m ddad` is the command `ddad`."""

from ddad.cli import main

if __name__ == "__main__":
    main()
