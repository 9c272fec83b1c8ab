"""Local web page that predicts photos with a trained run."""
