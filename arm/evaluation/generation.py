"""Text to image: prompts of GenEval's six categories, drawn by the model and read by the checker."""

from arm.evaluation.checked import CheckedBenchmark


class TextToImage(CheckedBenchmark):
    """Share of prompts whose image shows everything asked for and nothing else; mean of the category means."""

    name, asks = "text_to_image", "prompts"
    weighting, headline = "macro", "mean"
