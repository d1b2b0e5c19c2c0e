"""What each optimisation earns on the machine this runs on: `python -m flujo.bench claims`."""
