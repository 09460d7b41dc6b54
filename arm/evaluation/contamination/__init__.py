"""Has the model seen the test? Training shards held against evaluation sets: prompts by text and by scene, images by look."""
