"""From a PyTorch module to an ONNX file that keeps its normalizations. The only package that knows torch, and it loads it late.

It is not called `export`, because `bnfold.export` is the function, and a package of that name would take its place.
"""
