"""The Python side of Deltaworks: evaluates the source files of a pipeline.

The engine starts ``python -m deltaworks.evaluate`` with the user's interpreter; everything that a
source file declares goes back to it over Spark Connect.
"""
