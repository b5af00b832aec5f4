"""`python cli.py …` is `bnfold …` without installing."""

from bnfold.cli.main import main

main()
