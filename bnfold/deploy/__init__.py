"""Hand-overs to serving: a model file becomes what a server expects to find."""
