"""Bodies of requests and answers, as pydantic models: one file an API.

Requests are checked with them; answers are only described by them, since answers are written
straight from arrays. What a JSON schema cannot know before a model is loaded (its layers, its
vocabulary) and what settings decide is put into the document by :mod:`service.schemas.document`.
"""
