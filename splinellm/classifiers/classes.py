"""What texts are told apart as by the toxicity classifiers."""

TOXIC, CLEAN = "toxic", "clean"
