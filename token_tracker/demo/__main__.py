"""`python -m token_tracker.demo`."""

from token_tracker.demo import main

if __name__ == "__main__":
    main()
