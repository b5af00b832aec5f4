"""`python cli.py …` is `bnfold …` without installing."""

from bnfold.cli.main import main

if __name__ == "__main__":  # worker processes import this file again
    main()
