"""Slakh trees, the built-in mini-Slakh, and caches of latents."""
