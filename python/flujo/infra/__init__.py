"""What surrounds runs: caches, telemetry and the console."""
