"""The forms in which people have images with labels: a file a form, each from paths to `Parts`."""
