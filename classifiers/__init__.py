"""Small classifier models: folders that ship (`small`, `ngram`) and, in `train`, the steps that make them again.

Nothing here is imported by `moderation`: a model folder is data, and `train` runs only where a model is made.
"""
