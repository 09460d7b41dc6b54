"""Container images of the components, one per phase: what `make images` builds.

On a cluster set ARM_IMAGES to `registry/project` and ARM_IMAGE_TAG to a digest (`@sha256:…`), because KFP compares
image strings and a tag can move.
"""

import os

PREFIX = os.environ.get("ARM_IMAGES", "localhost/arm")
TAG = os.environ.get("ARM_IMAGE_TAG", ":0.1.0")

DATA = f"{PREFIX}/python-data{TAG}"
MODEL = f"{PREFIX}/python-model{TAG}"
RELEASE = f"{PREFIX}/python-release{TAG}"
