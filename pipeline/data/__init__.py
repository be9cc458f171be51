"""Images: reading, downloading, checking, splitting, changing them.

IDX files -> ImageSet (train), ImageSet (test) = Dataset -> Splits
"""
