"""`python -m bnfold …` is `bnfold …`."""

from bnfold.cli.main import main

main()
