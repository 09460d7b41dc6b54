"""What the compiled pages look like: columns of whole numbers, and texts that are places in one heap of bytes.

rows     one candidate each: its address is heap[rows[i, URL] : rows[i, URL_END]], a zero byte and its caption follow
pages    what the rows of a page share
state    cursors and counts, kept from one call to the next
"""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Span = tuple[int, int, int]
"""Start and end of a string, and what it holds."""
URL, URL_END, CAPTION, CAPTION_END, KIND, POSITION, PAGE, STANDING = range(8)
"""Columns of a row. KIND is an index into KINDS."""
KINDS = ("alt", "title")
PLAIN, ODD, NOTE, DROPPED = range(4)
"""Standings of a row: a pair; address and caption as they were found, to be judged; a remark on its page; no pair."""
(
    ADDRESS, ADDRESS_END, TITLE, TITLE_END, CHARSET, CHARSET_END, WARC, WARC_END, WARC_OFFSET, OFFSET, RAW_TITLE
) = range(11)  # fmt: skip
"""Columns of a page. RAW_TITLE: the title is as it was found."""
NUM_ROW_COLUMNS, NUM_PAGE_COLUMNS = 8, 11
(
    MEMBER, NEXT_HIT, TOP, NUM_ROWS, NUM_PAGES, LAST_METADATA,
    RECORDS_BARE, PAGES_READ, CANDIDATES_FOUND, CANDIDATES_BARE, BODY, BODY_END, TARGET, TARGET_END
) = range(14)  # fmt: skip
"""The state: the member to read next; where the next image link is, NEVER if there is none; how much of the heap, the rows
and the pages is used; the offset of the last metadata record, -1 before the first; counts; body and address of the record that is read."""
NUM_STATES = 14
START, END, FILE_OFFSET = range(3)
"""Columns of a member: its place in the buffer, and where it begins in the file."""
MAX_BODY, MAX_URL, MAX_CAPTION, MAX_IMAGES, MAX_TITLE = range(5)
"""Limits: bytes, characters, characters, images of a page, characters."""
DONE, NO_ROOM, ODD_RECORD, ODD_PAGE = range(4)
"""Why `read_members` returned: all is read; heap, rows or pages are full; the member, or its page, is not usual."""
NEVER = 1 << 62
MAX_NAME = 2_000
"""Characters of a WARC file's name; a record that gives a longer one is broken (it stands in every row of its page)."""
