"""The command line: `prpm test` and friends, hosted through the service's API, local through the engine."""
