"""The ledger: which documents each step of a training run consumed, in at most two bytes a document.

    ledger/steps-00000.parquet       step  documents  tokens  digest  identity          one row a step
    ledger/documents-00000.parquet   kind  shard  epoch  first_row  last_row  first_step  last_step  gaps  steps

`format` says how the documents are coded, `recorder` writes the files as training goes, `verification` proves that
nothing was left out or repeated, `query` says who saw a sample.
"""
