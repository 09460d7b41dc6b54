"""What a model makes for a benchmark, in the layout that the benchmark's own program reads.

Resumable item by item: what is there is kept, what is missing is made; each file appears whole or not at all. Beside it
lies a protocol: the model, its settings, the digest of what it was asked. Another protocol in the same place is refused.
"""
