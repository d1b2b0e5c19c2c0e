"""What surrounds runs: telemetry and the console."""
