"""ARM: one autoregressive transformer that understands, generates and edits images (arXiv 2606.11188)."""

__version__ = "0.1.0"
