"""Models under evaluation, ours and everybody else's, behind one Protocol (`model.Model`).

    load(ModelConfig(kind="diffusers", model="weights/flux"), "generate_images")

`kinds.KINDS` is the table of names. Nothing is downloaded, no code of a checkpoint is run, no pickle is read.
"""
