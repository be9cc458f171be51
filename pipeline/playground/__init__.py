"""A local web page on which one draws digits and every champion answers at once."""
