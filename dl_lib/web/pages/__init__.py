"""Parts shared by the report and the demo page."""
