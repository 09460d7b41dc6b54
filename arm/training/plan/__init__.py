"""The plan: which documents, in which rows, at which step. A pure function of (shards, mixture, seed).

    next kind      of those not ahead of the integral of their declared share (`shares`, whole numbers), the one whose
                   next document the schedule finishes first
    next document  the next of that kind: shards in a keyed order, documents shuffled inside open shards (`streams`)
    its choices    drop, text variant, frame stride, resolution: drawn from (seed, uid, epoch, kind) (`choices`)
    its row        best fit over the open rows; before a segment of a thousand steps begins all are closed (`kernel`)

A planner makes rows one after another and can be put back to the start of any segment (`planner`); `files` writes
segments ahead, each with the state at its start and a digest, and reads single steps back.
"""
