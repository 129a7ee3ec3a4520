"""The app that every package audits: the same models, each with the package's own tracking."""
