"""Validators, at the path that older versions had them at."""

from flujo.domain.validation import BaseValidator, ValidationResult, Validator, validator

__all__ = ["BaseValidator", "ValidationResult", "Validator", "validator"]
