"""REST service in front of the extractor and its classifiers."""
