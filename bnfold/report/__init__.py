"""What a run found, as frozen dataclasses, and its renderings as text, JSON and Markdown."""
