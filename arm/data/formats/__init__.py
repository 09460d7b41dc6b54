"""Data sets that others made: a format says how rows are stored, the task what a row becomes, `columns` how its fields are named.

    webdataset   tars of key.jpg + key.txt [+ key.json]; key.source.jpg, key.target.jpg, key.txt; key.mp4 + key.srt
    json         .jsonl or .json lists, .gz or .zst; images in files beside them, or in tars (LLaVA)
    table        Parquet, Arrow (`save_to_disk`) and CSV files; images as {bytes, path}, or files beside them
    folder       name.jpg + name.txt, name.mp4 + name.srt
    samples      our own tars, taken as they are

    {"format": "table", "task": "edit", "columns": {"source_image": "src_img", "target_image": "edited_img"}}

A format (arm.data.formats.readers) yields rows, cheaply; arm.data.formats.shapes makes a sample of one. A bad row is counted
under its reason, never an exception; a file that is no such file at all is one sentence.
"""
