"""The test engine: a suite and a package in, verdicts out. It knows no database and no web framework."""

ENGINE_VERSION = "0.1.0"
