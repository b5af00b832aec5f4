"""Running models with onnxruntime: inputs, sessions, and the comparison of two models."""
