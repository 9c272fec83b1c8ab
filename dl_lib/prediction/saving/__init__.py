"""Output folder of `dl_lib predict`: label images, overlays, probabilities and records of new images and videos."""

__all__ = ["FORMATS", "LABELS", "OVERLAYS", "PROBABILITIES", "RECORDS"]

LABELS, OVERLAYS, PROBABILITIES, RECORDS = "labels", "overlays", "probabilities", "json"
FORMATS = (LABELS, OVERLAYS, PROBABILITIES, RECORDS)
