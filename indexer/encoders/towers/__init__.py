"""The trained kind of dual encoder: image, audio and text towers, heads and adapters."""
