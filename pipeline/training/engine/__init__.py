"""One training by itself: from a config and images to weights and scores. It knows of no server, study or terminal."""
