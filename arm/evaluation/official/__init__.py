"""The benchmarks of the paper, run as their authors run them: rows → generate → judge → score, in `evaluate-model`.

    <artifact>/benchmarks/<subject>/<benchmark>/
        made/…               images in the benchmark's own layout, or answers*.jsonl        generate
        replies.jsonl        what a judge said of each item                                   judge
        results/…            detections, answers, judge's texts as the scorer reads them      parse
        made_from.json       of which images results were made: others are looked at anew
        items.jsonl          one verdict an item, `image`: a path in the artifact               aggregate
        scores.json          numbers, details, protocol: as `arm score` writes them

A benchmark is one entry of `suites.SUITES`. Generation goes on image by image and answer by answer, judging reply by reply;
the scorers are those of `arm score`, and know nothing of models.
"""
