"""Steps at the paths that older versions had them at."""
