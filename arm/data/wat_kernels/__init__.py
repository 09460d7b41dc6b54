"""WAT files at the speed of their inflation: compiled loops that find image links in bytes and keep places, not objects.

members     gzip members of a file, inflated into one buffer        (marks: where they seem to begin and end)
pages       members -> rows                                         (header, envelope, strings, texts, search)
layout      what rows, pages and the state of a loop look like
columns     rows -> columns of Arrow
entries     the loops that Python calls
"""
