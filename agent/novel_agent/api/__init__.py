"""What operators and scrapers see over HTTP: one resource a file, and who may ask for it."""
