"""Output folder of `dl_lib predict`: label images, overlays, probabilities and records of new images and videos."""
