"""Files in, files out: readers and writers of rows, and the loop between them.

Nothing is imported here, so that the command line can look up a file format without loading
Arrow. Read in this order: :mod:`~splinellm.io.rows` (what a row and a chunk of rows are),
:mod:`~splinellm.io.pipeline` (the loop), then the reader or writer of a format.
"""
