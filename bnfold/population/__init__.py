"""Population statistics of normalizations, measured on data.

It is not called `recalibrate`, because `bnfold.recalibrate` is the function, and a module of that name would take its place.
"""
