"""The measured performance model: operators, engines, power, with an interval on every figure."""
