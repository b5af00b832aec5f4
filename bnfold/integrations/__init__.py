"""bnfold as a step of other tools. Each module needs the tool that it is named after."""
