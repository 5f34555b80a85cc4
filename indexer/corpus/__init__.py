"""Folders, files and manifests -> items, and which stored items are gone. Opens no media, knows no models."""
