"""The benchmarks of the field, scored as their authors score them: official results in, numbers with their protocol out.

    parse(reply) -> answer | Failure      one reply, read as the official program reads it
    score(results, data, config)          a folder in the official layout -> Result: items, scores, protocol

`registry.py` names them all; `arm score --benchmark geneval --results DIR` is the command. No model and no judge runs here.
"""
