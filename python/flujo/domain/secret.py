"""Values that are never written anywhere: dumps, logs and errors show asterisks in their place.

`get_secret_value()` gives the value. Any type can be kept: `Secret[dict[str, str]]`.
"""

from pydantic import Secret, SecretStr

__all__ = ["Secret", "SecretStr"]
