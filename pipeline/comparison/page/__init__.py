"""A comparison as a page: what is drawn of it, and what is said."""
