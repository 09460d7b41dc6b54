"""Preflight: what a recipe will take, before anything runs. Standard library only, so that a laptop can plan a cluster."""
