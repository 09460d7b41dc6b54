"""`python -m arm` is `arm`."""

from arm.cli import main

if __name__ == "__main__":
    main()
