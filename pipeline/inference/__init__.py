"""From files of many kinds to what a registered model says of them."""
