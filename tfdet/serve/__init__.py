"""A small HTTP server for trying a detector: a page to upload photos to, and TF Serving's paths.

rest       TF Serving's json: requests to tensors, outputs to answers
servable   a model under its name, one request after the other
server     HTTP: paths, limits, errors
"""
