"""What runs: the riskbeat command, the settings and the local stack."""
