"""Backbones with their heads, one file each: a new file here is a model by its class's name."""
