"""Every alert, provoked on a running deployment, and its runbook page followed."""
