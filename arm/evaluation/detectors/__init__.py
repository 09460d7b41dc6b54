"""Detectors behind GenEval: what an image shows, as boxes by class and colours of boxes; the rule is another's part."""
