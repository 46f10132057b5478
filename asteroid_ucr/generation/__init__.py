"""Generating with a masking prior: component latents, sounds, files."""
