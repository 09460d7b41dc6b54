"""The parts of the report page: pure functions from a store's manifests to HTML. Standard library only."""
