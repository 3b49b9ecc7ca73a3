"""The boxed classifiers, and the recipe that makes them (:mod:`splinellm.classifiers.build`)."""
