"""Reference networks: how they are built, trained and exported. Not part of the installed package; see README.md."""
