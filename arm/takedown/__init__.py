"""Taking data down: tombstones for everything that an address, a domain, a checksum or a uid names, and what it touched.

entries     what was asked for, read and checked            search    what the artifacts of a store hold of it
impact      what training consumed, what derives from it    page      the report
compaction  new versions of artifacts without it            command   the verb `arm takedown`
"""
